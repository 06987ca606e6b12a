"""serving/compare: points with their conditions; without a price a line in the table and no mark."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest
from babel import Locale

from core.hardware.catalogue import endpoints
from core.language import Language
from core.readings import Entity, Latency, LatencySample, Outcome, ProbeSample
from pages.shared import language
from tests.pages.additions import add, configure, said
from tests.pages.conftest import Open
from tests.pages.databases import BOUNDS, DEPLOYMENT, HOST, HOSTILE
from tests.pages.test_language import NAMES, SAID, WORD, Brackets

COMPARE = "serving/compare"
PRICES = '[[cost.hardware]]\nkind = "rented"\napplies_to = "accelerator"\nmatch = "H100"\nper_hour = 2.0'
HOSTED = (
    '[[probe]]\nname = "fast"\nurl = "https://api.test/v1"\nmodel = "big"\nmonthly_cap_usd = 1.0\n'
    "usd_per_million_input_tokens = 0.5\nusd_per_million_output_tokens = 3.0"
)


def at_ms() -> int:
    return int(time.time() * 1000) - 60_000


def endpoint(name: str, model: str) -> list[Entity | ProbeSample]:
    labels = {"url": "https://api.test/v1", "model": model}
    answers = [
        ProbeSample(key=name, observed_at_ms=at_ms() + n, outcome=Outcome.OK, tpot_seconds=0.005, output_tokens=16)
        for n in range(3)
    ]
    return [Entity(observed_at_ms=at_ms(), family="probe", key=name, host=HOST, labels=labels), *answers]


def marks(test, number: int) -> list[dict]:
    """What a picture draws, as it goes to the browser."""
    spec = json.loads(test.get("vega_lite_chart")[number].proto.spec)
    return [layer["mark"] for layer in spec["layer"]]


def test_without_anything_it_says_what_to_add(empty: Path, open_page: Open):
    test = open_page(COMPARE)
    assert "Nothing to compare" in said(test)
    assert not test.get("vega_lite_chart")


def test_own_and_hosted_stand_side_by_side(full: Path, open_page: Open):
    configure(full, f"{PRICES}\n{HOSTED}")
    add(full, *endpoint("fast", "big"))
    test = open_page(COMPARE)
    text = said(test)
    assert "Fastest: big on hosted endpoint, 200 tokens/s per user" in text
    assert test.success
    frame = test.dataframe[0].value.set_index("name")
    assert frame.loc["llama", "hardware"] == "H100 80GB HBM3"
    assert frame.loc["llama", "tokens_per_second"] == 20.0  # 1 / 50 ms, the median gap
    assert frame.loc["llama", "speed_by"] == "1 / ITL median"
    assert frame.loc["llama", "usd_per_million_output_tokens"] > 0
    assert frame.loc["big", "usd_per_million_output_tokens"] == 3.0
    assert frame.loc["big", "energy_by"] == "missing"
    assert "n = 3; 16 output tokens a request; one request at a time" in frame.loc["big", "conditions"]
    assert len(marks(test, 0)) == 2


def test_what_others_published_stands_apart_when_asked_for(full: Path, open_page: Open):
    configure(full, PRICES)
    test = open_page(COMPARE)
    assert "Fastest: llama on H100" in said(test)
    assert test.dataframe[0].value["kind"].tolist() == ["own"]
    test.toggle(key="compare-published").set_value(True).run()
    assert "Fastest: llama on H100" in said(test)  # of what was seen
    frame = test.dataframe[0].value
    others = frame[frame["kind"] == "published"]
    assert len(others) == len(endpoints())
    assert all(text.startswith("published: list price") and "speed: " in text for text in others["price_by"])
    assert all("not seen here" in text for text in others["conditions"])
    assert set(others["energy_by"]) == {"missing"}
    assert '"cross"' in test.get("vega_lite_chart")[0].proto.spec


def test_without_a_price_there_is_a_line_and_no_mark(full: Path, open_page: Open):
    test = open_page(COMPARE)
    text = said(test)
    assert "1 of 1 without a price, set one to see them: llama" in text
    assert "nothing has both a known speed and a price" in text
    frame = test.dataframe[0].value.set_index("name")
    assert frame.loc["llama", "missing"] == "set a price"
    assert frame["usd_per_million_output_tokens"].isna().all()
    assert len(test.get("vega_lite_chart")) == 1  # its energy is known


def test_a_hostile_name_is_text_here_too(full: Path, open_page: Open):
    labels = {"model": HOSTILE, "engine": HOSTILE, "url": f"http://h/{HOSTILE}"}
    gaps = LatencySample(
        key="evil",
        kind=Latency.ITL,
        observed_at_ms=at_ms(),
        upper_bounds_seconds=BOUNDS,
        increments=(0, 9, 0, 0, 0, 0),
        sum_seconds=0.3,
    )
    add(full, Entity(observed_at_ms=at_ms(), family="deployment", key="evil", host=HOST, labels=labels), gaps)
    test = open_page(COMPARE)
    assert not test.exception
    boxes = [*test.success, *test.info, *test.warning, *test.error, *test.markdown, *test.caption]
    assert all("<script>" not in box.value and "[bold](" not in box.value for box in boxes)


def test_what_analytics_say_of_a_point_is_said_in_the_visitors_language(
    full: Path, open_page: Open, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(language, "language", lambda _: Language(Locale("en"), Brackets()))
    configure(full, HOSTED)
    add(full, *endpoint("fast", "big"))
    frame = open_page(COMPARE).dataframe[0].value
    assert len(frame) == 2
    cells = frame[["kind", "hardware", "missing", "speed_by", "price_by", "energy_by"]].to_numpy().ravel()
    assert {cell for cell in cells if WORD.search(NAMES.sub(" ", SAID.sub(" ", cell)))} == set()


def test_the_filters_hold_here_too(full: Path, open_page: Open):
    add(full, *endpoint("fast", "big"))
    assert list(open_page(COMPARE, deployment=DEPLOYMENT).dataframe[0].value["name"]) == ["llama"]
    assert list(open_page(COMPARE, model="big").dataframe[0].value["name"]) == ["big"]
