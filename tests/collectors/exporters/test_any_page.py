"""Whatever a page says, a dialect reads it without an error, and nothing impossible comes out."""

from __future__ import annotations

import math
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.catalog import FAMILIES
from core.readings import AcceleratorSample, Entity, Sample
from tests.collectors.exporters.pages import FIXTURES, Watched, dialect_of, of, samples

PAGES = sorted(path.stem for path in FIXTURES.glob("*.prom"))
NUMBERS = st.sampled_from(
    ("NaN", "-1", "0", "1", "+Inf", "-Inf", "1e400", "2147483632", "9.223372036854776e+18", "1.5", "65535", "1e-300")
)
TEXTS = st.one_of(
    st.sampled_from(("", "0", "-1", "9" * 30, "²", "x" * 500, "a:b:c", ":", "[::", "N/A", "package-999999", "٣")),
    st.text(st.characters(exclude_categories=("Cs",), exclude_characters='"\\\n'), max_size=8),
)
HIGHEST = {"_ratio": 1.0, "_celsius": 150.0, "_watts": 1e6, "_hertz": 1e10}


@pytest.mark.parametrize("name", PAGES)
@settings(max_examples=10, deadline=None)
@given(data=st.data())
def test_no_page_is_an_error(name: str, data: st.DataObject):
    text = (FIXTURES / f"{name}.prom").read_text()
    watched = Watched(dialect_of(text))
    for _ in range(2):
        changed = spoilt(text, data)
        for at_ms in (0, 10_000):
            readings = watched.look(changed, 1_760_000_000_000 + at_ms)
            described = {(entity.family, entity.key) for entity in of(Entity, readings)}
            for sample in samples(readings):
                assert (sample.family, sample.key) in described
                assert sample.key
                check_values(sample)


def spoilt(text: str, data: st.DataObject) -> str:
    """A page in which a third of the values, and all texts of one label, are others."""
    label = data.draw(st.sampled_from(sorted(set(re.findall(r"[{,](\w+)=", text)))))
    word = data.draw(TEXTS)
    text = re.sub(rf'([{{,]{label}=)"[^"]*"', lambda found: f'{found[1]}"{word}"', text)
    lines = text.rstrip().split("\n")
    number, first = data.draw(NUMBERS), data.draw(st.integers(0, 2))
    for place in range(first, len(lines), 3):
        if not lines[place].startswith("#"):
            lines[place] = f"{lines[place].rpartition(' ')[0]} {number}"
    return "\n".join(lines) + "\n"


def check_values(sample: Sample) -> None:
    for metric in FAMILIES[sample.family].metrics:
        value = getattr(sample, metric.name)
        if value is None or metric.name == "temperature_margin_celsius":
            continue
        assert math.isfinite(value), metric.name
        assert value >= 0, metric.name
        assert isinstance(value, int) or not metric.integer, metric.name
        assert value <= HIGHEST.get(metric.unit.suffix, math.inf), metric.name
        if isinstance(sample, AcceleratorSample) and metric.name == "power_watts":
            assert 0 < value <= 10_000
