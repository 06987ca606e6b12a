from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from collectors.scrape.exposition import MAX_LINES, Page, PageReader, Selector
from collectors.sources.serving import ENGINES
from core.errors import CollectorError
from tests.collectors.serving.pages import FIXTURES, recorded

NAMES = {name for engine in ENGINES for name in engine.series_names()}
SELECT = Selector(NAMES)
FILES = sorted(
    str(file.relative_to(FIXTURES).with_suffix(""))
    for file in FIXTURES.rglob("*.prom")
    if any(engine.recognises(file.read_bytes()) for engine in ENGINES)
)


def numbers(page: Page) -> dict[tuple[object, ...], float]:
    return {
        (name, point.series.bound, point.series.identity): point.value
        for name, points in page.points.items()
        for point in points
    }


def by_library(text: str) -> dict[tuple[object, ...], float]:
    """All samples of the names we read, by prometheus_client alone."""
    found: dict[tuple[object, ...], float] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            name = sample.name if sample.name in text else sample.name.removesuffix("_total")  # which it added
            if name in NAMES:
                labels = dict(sample.labels)
                le = labels.pop("le", None)
                bound = None if le is None else float(le)
                found[name, bound, tuple(sorted(labels.items()))] = sample.value
    return found


@pytest.mark.parametrize("name", FILES)
def test_a_page_holds_what_the_library_reads(name):
    text, reader = recorded(name), PageReader()
    first, again = (numbers(reader.read(SELECT(text.encode()))) for _ in range(2))
    assert first == by_library(text)
    assert len(first) > 4
    assert again == first  # the second time series are looked up, not parsed


label_values = st.text(st.characters(exclude_categories=("Cs", "Cc")), max_size=12)


@given(
    st.lists(
        st.tuples(label_values, st.floats(allow_nan=False)), min_size=1, max_size=5, unique_by=lambda pair: pair[0]
    )
)
def test_any_label_and_value_survives(pairs):
    def escaped(text):
        return text.replace("\\", r"\\").replace('"', r"\"")

    text = "".join(f'vllm:prompt_tokens_total{{model_name="{escaped(m)}"}} {v!r}\n' for m, v in pairs)
    reader = PageReader()
    for _ in range(2):
        points = reader.read(SELECT(text.encode())).points.get("vllm:prompt_tokens_total", [])
        assert [(p.series.labels["model_name"], p.value) for p in points] == pairs


def test_equal_bounds_written_differently_are_one_bound():
    lines = (f'vllm:time_to_first_token_seconds_bucket{{le="{le}"}} 1\n' for le in ("1", "1.0", "1e0"))
    points = PageReader().read(SELECT("".join(lines).encode())).points
    assert {point.series.bound for point in points["vllm:time_to_first_token_seconds_bucket"]} == {1.0}


def test_a_time_stamp_is_not_the_value():
    reader = PageReader()
    for stamp in (1_760_000_000_000, 1_760_000_010_000):
        page = reader.read(SELECT(f"llamacpp:tokens_predicted_total 7 {stamp}\n".encode()))
        assert page.single("llamacpp:tokens_predicted_total") == 7


def test_special_values_and_line_ends():
    page = PageReader().read(SELECT(b"llamacpp:requests_processing NaN \r\nllamacpp:requests_deferred +Inf\r\n"))
    assert math.isnan(page.single("llamacpp:requests_processing") or 0)
    assert page.single("llamacpp:requests_deferred") == math.inf


def test_lines_of_other_series_are_not_even_looked_at():
    text = 'vllm:prompt_tokens_created{broken\nvllm:prompt_tokens_total_more 1\n"\nllamacpp:requests_deferred 3\n'
    assert numbers(PageReader().read(SELECT(text.encode()))) == {("llamacpp:requests_deferred", None, ()): 3}


@pytest.mark.parametrize(
    "line",
    [
        b'vllm:prompt_tokens_total{model_name="m} 1',
        b"vllm:prompt_tokens_total",
        b"vllm:prompt_tokens_total one",
        b'vllm:prompt_tokens_total{model_name="\xff\xfe"} 1',
        b'vllm:prompt_tokens_total{model_name="' + b"m" * 10_000 + b'"} 1',
    ],
)
def test_a_broken_line_of_interest_is_one_clear_failure(line):
    with pytest.raises(CollectorError, match=r"^not a metrics page: "):
        PageReader().read(SELECT(line + b"\n"))


def test_pages_beyond_any_server_are_refused():
    with pytest.raises(CollectorError, match="lines"):
        SELECT(b"\n" * (MAX_LINES + 1))
    with pytest.raises(CollectorError, match="2 MiB of series"):
        SELECT(b'vllm:prompt_tokens_total{model_name="a"} 1\n' * 110_000)


def test_series_that_never_return_are_forgotten():
    reader = PageReader()
    for tick in range(50):
        reader.read("\n".join(f'vllm:x{{a="{tick}-{n}"}} 1' for n in range(100)).encode())
    assert len(reader._known) < 400
