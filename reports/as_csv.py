"""What the week cost as rows for a spreadsheet or a FinOps tool, under the column names of FOCUS 1.0.

One row for each line of the bill of each deployment at each site; together they are the bill. Only the amortised cost
is known here: what was invoiced, listed or negotiated is empty. Columns that FOCUS lacks begin with ``x_``, as it asks.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from typing import NamedTuple

from analytics.device_hours import IDLE_ID
from analytics.ledger import LINES
from analytics.weekly import CostRow, WeeklySummary
from reports.words import Words
from storage.soundness import iso

COLUMNS = (
    *("BilledCost", "BillingCurrency", "ChargeCategory", "ChargeDescription", "ChargePeriodEnd", "ChargePeriodStart"),
    *("ConsumedQuantity", "ConsumedUnit", "ContractedCost", "EffectiveCost", "ListCost", "RegionName", "ResourceId"),
    *("ResourceName", "ResourceType", "ServiceCategory", "ServiceName", "x_Label", "x_Missing", "x_Simulated"),
)
HELD_BY_NOBODY = "__idle__"
_FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r")


class _Line(NamedTuple):
    described: str
    unit: str


_LINES = dict(
    zip(
        LINES,
        (
            _Line("hardware", "Device-Hours"),
            _Line("electricity while active", "kWh"),
            _Line("electricity while idle", "kWh"),
            _Line("overhead", ""),
        ),
        strict=True,
    )
)


def file(summary: WeeklySummary, _words: Words) -> bytes:
    """The content of the file; unknown is an empty cell."""
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\r\n")  # RFC 4180
    writer.writeheader()
    for row in summary.rows:
        writer.writerows(_rows(row, summary))
    return text.getvalue().encode()


def _rows(row: CostRow, summary: WeeklySummary) -> Iterator[dict[str, object]]:
    is_idle = row.deployment_id == IDLE_ID
    end_ms = summary.span.start_ms + round(summary.elapsed_hours * 3_600_000)
    used = (row.device_hours, row.bill.active_kwh, row.bill.idle_kwh, None)
    for quantity, (line, said) in zip(used, _LINES.items(), strict=True):
        yield {
            "BillingCurrency": "USD",
            "ChargeCategory": "Usage",
            "ChargeDescription": said.described,
            "ChargePeriodStart": iso(summary.span.start_ms),
            "ChargePeriodEnd": iso(end_ms),
            "ConsumedQuantity": quantity,
            "ConsumedUnit": said.unit,
            "EffectiveCost": getattr(row.bill, line),
            "RegionName": _harmless(row.site),
            "ResourceId": HELD_BY_NOBODY if is_idle else row.deployment_id,
            "ResourceName": _harmless(row.server),
            "ResourceType": "idle devices" if is_idle else "deployment",
            "ServiceCategory": "AI and Machine Learning",
            "ServiceName": HELD_BY_NOBODY if is_idle else _harmless(row.model),
            "x_Label": row.bill.quality.value,
            "x_Missing": _harmless("; ".join(f"{who}: {why}" for who, why in row.bill.missing)),
            "x_Simulated": str(summary.is_simulated).lower(),
        }


def _harmless(text: str) -> str:
    """Text from outside, which a spreadsheet must not take for a formula."""
    return f"'{text}" if text.startswith(_FORMULA_STARTS) else text
