"""``docs/metrics.md`` from the catalog: ``python -m core.reference``. A test keeps the file current."""

from __future__ import annotations

from core.catalog import FAMILIES
from core.readings import Latency, LatencySample

INTRODUCTION = """\
# Metrics

Generated from the catalog by `make docs`. Every metric is in the base unit that its name ends with;
`_ratio` lies between 0 and 1, `_total` counts up until what counts it restarts. Unknown is NULL, 0 is measured.
"""


def metric_reference() -> str:
    """The whole page, as Markdown."""
    parts = [INTRODUCTION]
    for family in FAMILIES.values():
        parts.append(f"## {family.name}\n\n{family.help}\n")
        parts.append("| metric | kind | unit | filled by | what it is |\n|---|---|---|---|---|")
        parts += [
            f"| `{m.name}` | {m.kind.value} | {_unit(m.name, m.unit.symbol)} | {', '.join(m.sources)} | {m.help} |"
            for m in family.metrics
        ]
        parts.append("")
    first_line = (LatencySample.__doc__ or "").partition("\n")[0]
    kinds = ", ".join(f"`{kind.value}`" for kind in Latency)
    parts.append(f"## latency\n\n{first_line}\nHistograms in seconds, of the kinds {kinds}; filled by serving.\n")
    return "\n".join(parts)


def _unit(name: str, symbol: str) -> str:
    return "0-1" if name.endswith("_ratio") else symbol or "count"


if __name__ == "__main__":
    print(metric_reference(), end="")  # noqa: T201  the command's product
