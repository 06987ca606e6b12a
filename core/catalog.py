"""The list of everything Vatio can measure, collected from the declarations in ``core.readings``.

Hot tables, chart titles and units, exposition names and ``docs/metrics.md`` are derived from here.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

from core.metric import Metric, declared
from core.readings import SAMPLE_TYPES, Sample


@dataclass(frozen=True, slots=True)
class Family:
    """All metrics that share one key and one table."""

    name: str
    sample_type: type[Sample]
    help: str
    metrics: tuple[Metric, ...]

    def metric(self, name: str) -> Metric:
        """The metric of that name; ``KeyError`` names the family when there is none."""
        for metric in self.metrics:
            if metric.name == name:
                return metric
        raise KeyError(f"no metric {name!r} in family {self.name!r}")


def _family(sample_type: type[Sample]) -> Family:
    name = sample_type.family
    metrics = tuple(m for f in fields(sample_type) if (m := declared(name, f)) is not None)
    first_line = (sample_type.__doc__ or "").partition("\n")[0]
    return Family(name, sample_type, first_line, metrics)


FAMILIES: dict[str, Family] = {t.family: _family(t) for t in SAMPLE_TYPES}
