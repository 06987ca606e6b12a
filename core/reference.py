"""What of ``docs/`` comes from the code: ``python -m core.reference metrics | settings``. Tests keep it current."""

from __future__ import annotations

import sys

from core.catalog import FAMILIES
from core.exposition import INFO, LATENCIES, OWN, exposed
from core.readings import LatencySample
from core.settings_reference import settings_reference

INTRODUCTION = """\
# Metrics

Generated from the catalog by `make docs`. Every metric is in the base unit that its name ends with;
`_ratio` lies between 0 and 1, `_total` counts up until what counts it restarts. Unknown is NULL, 0 is measured.
*On the page* is the name under which the daemon's own metrics page shows it (OpenTelemetry's where it has one).
"""


PAGE = """\
## What else is on the page

The series of an entity carry its key (`hw_id`, `deployment`, `probe`) and its `host`; the rest is told by the `_info`
series, to be joined by the key. What was not measured for five minutes (or three intervals, where that is longer)
is left out.
"""


def metric_reference() -> str:
    """The whole page, as Markdown."""
    parts = [INTRODUCTION]
    for family in FAMILIES.values():
        parts.append(f"## {family.name}\n\n{family.help}\n")
        parts.append("| metric | kind | unit | filled by | on the page | what it is |\n|---|---|---|---|---|---|")
        parts += [
            f"| `{m.name}` | {m.kind.value} | {_unit(m.name, m.unit.symbol)} | {', '.join(m.sources)} "
            f"| `{exposed(m)}` | {m.help} |"
            for m in family.metrics
        ]
        parts.append("")
    parts.append(_latencies())
    parts.append(_page())
    return "\n".join(parts)


def _latencies() -> str:
    first_line = (LatencySample.__doc__ or "").partition("\n")[0]
    rows = "\n".join(f"| `{kind}` | `{name}` |" for kind, name in LATENCIES.items())
    return (
        f"## latency\n\n{first_line}\nHistograms in seconds; filled by serving, exporters.\n\n"
        f"| kind | on the page |\n|---|---|\n{rows}\n"
    )


def _page() -> str:
    rows = "\n".join(f"| `{series.name}` | {series.type} | {series.help} |" for series in (*INFO.values(), *OWN))
    return f"{PAGE}\n| series | type | what it is |\n|---|---|---|\n{rows}\n"


def _unit(name: str, symbol: str) -> str:
    return "0-1" if name.endswith("_ratio") else symbol or "count"


if __name__ == "__main__":
    pages = {"metrics": metric_reference, "settings": settings_reference}
    print(pages[sys.argv[1]](), end="")  # noqa: T201  the command's product
