"""cost/capacity: a plan with and without a database, and what was measured beside it."""

from __future__ import annotations

import html
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

from analytics import capacity
from core.hardware.catalogue import accelerators
from core.hardware.planning import Precision, models
from core.readings import Assignment, DeploymentSample, Entity, Reading
from storage.engine import reader_engine
from tests.pages.additions import add, configure, said
from tests.pages.conftest import ROOT, Open
from tests.pages.databases import AMD, HOST, INTERVAL_MS, NVIDIA

CAPACITY = "cost/capacity"
LLAMA = "meta-llama/Llama-2-70b-chat-hf"
PRICES = '[[cost.hardware]]\nkind = "rented"\napplies_to = "accelerator"\nmatch = "H100 80GB"\nper_hour = 2.0'
PESOS = '[[cost.rate]]\ncurrency = "CLP"\non = 2026-01-01\nper_usd = 930'
HOUR_MS = 3_600_000
RATE = 600.0  # tokens/s


def serving(
    now_ms: int, targets: Sequence[str], *, minutes: int = 20, working: int = 60, silent: range = range(0)
) -> list[Reading]:
    """A server of Llama 2 70B with samples up to now but for some minutes; its counter goes on in those too.

    It works for the last ``working`` minutes and has nothing to do before.
    """
    start_ms, begin_ms = now_ms - minutes * 60_000, now_ms - working * 60_000
    key, labels = "http://127.0.0.1:9000 70b", {"model": LLAMA, "engine": "vllm", "url": "http://127.0.0.1:9000"}
    return [
        Entity(observed_at_ms=start_ms, family="deployment", key=key, host=HOST, labels=labels),
        Assignment(
            deployment_key=key,
            target_family="accelerator",
            target_keys=tuple(targets),
            origin="processes",
            observed_at_ms=start_ms,
        ),
        *(
            DeploymentSample(
                key=key,
                observed_at_ms=at_ms,
                running_requests=8.0 if at_ms > begin_ms else 0.0,
                generation_tokens_total=max(at_ms - begin_ms, 0) / 1000 * RATE,
            )
            for at_ms in range(start_ms, now_ms + 1, INTERVAL_MS)
            if (at_ms - start_ms) // 60_000 not in silent
        ),
    ]


def rates(path: Path, now_ms: int) -> dict[str, float]:
    """What ``measured`` finds in the hour before: tokens/s per accelerator of Llama 2 70B, by type."""
    found = capacity.measured(reader_engine(path), now_ms - HOUR_MS, now_ms)
    return {one.accelerator: one.tokens_per_second_per_accelerator for one in found if one.model == "Llama 2 70B"}


def arithmetic(test: AppTest) -> dict[str, str]:
    """The lines below "How was this computed", as people read them."""
    frame = test.table[0].value
    return {name: html.unescape(value) for name, value in zip(frame["name"], frame["value"], strict=True)}


@pytest.fixture
def opened() -> Callable[..., AppTest]:
    """The page as a link with these parameters opens it."""

    def open_(**parameters: str) -> AppTest:
        test = AppTest.from_file(str(ROOT / "pages" / f"{CAPACITY}.py"), default_timeout=30)
        for name, value in parameters.items():
            test.query_params[name] = value
        return test.run()

    return open_


def test_an_empty_database_has_a_plan_and_no_measurement(empty: Path, open_page: Open):
    test = open_page(CAPACITY, plan="Llama 2 70B", context=4_096, target=1_000)
    text = said(test)
    assert "Smallest that holds it: 1 × B200 SXM, 1 node of 8. Cheapest: set a price" in text
    assert "a bound, not a forecast" in text
    assert "Power: TDP" in text
    held, refused = (test.dataframe[number].value for number in (0, 1))
    assert len(held) + len(refused) == len(accelerators())
    assert set(held["accelerators_for_output"]) == {"no measurement"}
    assert held["tokens_per_second_measured"].isna().all()
    assert held.set_index("type").loc["B200 SXM", "tokens_per_second_bound"] == pytest.approx(806, abs=1)
    assert all(refused["reason"])
    assert held.set_index("type").loc["Instinct MI308X", "not_known"]
    assert len(test.get("vega_lite_chart")) == 1


def test_without_a_database_the_plan_is_the_same(database: Path, open_page: Open):
    test = open_page(CAPACITY, plan="Llama 2 70B", context=4_096)
    assert "Nothing has been measured yet." in said(test)
    assert "Smallest that holds it: 1 × B200 SXM" in said(test)
    assert not database.exists()


def test_a_link_holds_the_whole_form(empty: Path, opened: Callable[..., AppTest]):
    own = {"plan": "own numbers", "parameters": "10", "layers": "10", "heads": "2", "head_dim": "64"}
    test = opened(**own, weights="fp8", kv="fp8", context="1000", requests="4")
    lines = arithmetic(test)
    assert lines["weights"] == "9.3 GiB"  # 10 billion bytes
    assert lines["KV cache of a token"] == "2.5 KiB"  # 10 × 2 × 128 × 1 B
    assert lines["KV cache of all requests"] == "9.8 MiB"
    assert all(test.query_params[name] == value for name, value in own.items())


def test_nonsense_in_a_link_is_the_default(empty: Path, opened: Callable[..., AppTest]):
    nonsense = opened(plan="x", weights="x", kv="fp32", context="-1", requests="1e99", target="<script>")
    assert arithmetic(nonsense) == arithmetic(opened())


def test_what_cannot_be_is_said(empty: Path, open_page: Open):
    many = open_page(CAPACITY, plan="own numbers", parameters=7.0, active=70.0)
    assert "there cannot be more" in said(many)
    assert not many.dataframe
    long = open_page(CAPACITY, plan="Llama 2 70B", context=8_192)
    assert "No type of accelerator holds it: a request of this model holds 4,096 tokens at most." in said(long)


def test_measured_output_gives_whole_copies_for_the_target(full: Path, now_ms: int, open_page: Open):
    add(full, *serving(now_ms, [AMD]))
    test = open_page(CAPACITY, plan="Llama 2 70B", context=4_096, target=1_000, hardware="Instinct MI300X")
    assert "Measured on Instinct MI300X: 600.0 tokens/s per accelerator, so 2 for 1,000 tokens/s." in said(test)
    [row] = test.dataframe[0].value.to_dict("records")
    assert row["tokens_per_second_measured"] == pytest.approx(RATE)
    assert row["accelerators_for_output"] == "2"
    assert "8 requests at once" in row["measured_by"]
    assert arithmetic(test)["accelerators for the output asked for"] == "2 accelerators"
    other = open_page(CAPACITY, plan="Llama 3.1 8B", target=1_000, hardware="Instinct MI300X")
    assert list(other.dataframe[0].value["accelerators_for_output"]) == ["no measurement"]


def test_a_price_gives_the_cheapest(full: Path, open_page: Open):
    configure(full, PRICES)
    test = open_page(CAPACITY, plan="Llama 2 70B", context=4_096)
    assert "Cheapest by the prices in the settings: 4 × H100 SXM, 1 node of 8, 16.00 USD per hour" in said(test)
    priced = test.dataframe[0].value.dropna(subset=["node_hour_usd"])
    assert priced.set_index("type")["node_hour_usd"].to_dict() == {"H100 SXM": 16.0}


def test_prices_are_in_the_currency_of_the_settings_with_their_arithmetic(full: Path, open_page: Open):
    configure(full, f'[cost]\ncurrency = "CLP"\n{PRICES}\n{PESOS}')
    test = open_page(CAPACITY, plan="Llama 2 70B", context=4_096, hardware="H100 80GB HBM3")
    assert "4 × H100 SXM, 1 node of 8, 14,880 CLP per hour" in said(test)
    assert "Amounts are in CLP at the exchange rate of 2026-01-01, 930 per USD." in said(test)
    held = test.dataframe[0].value.set_index("type").loc["H100 SXM"]
    assert (held["node_hour_usd"], held["node_hour_clp"]) == (16.0, 14_880.0)
    lines = test.table[0].value.map(html.unescape).set_index("name").loc["price of all nodes"]
    assert lines.to_list() == ["1 × 16 USD/h × 930 CLP/USD", "14,880 CLP/h"]


def test_without_a_rate_prices_are_in_dollars_and_that_is_said(full: Path, open_page: Open):
    configure(full, f'[cost]\ncurrency = "EUR"\n{PRICES}')
    text = said(open_page(CAPACITY, plan="Llama 2 70B", context=4_096))
    assert "16.00 USD per hour" in text
    assert "Amounts are in USD: no exchange rate for EUR" in text


def test_every_term_of_a_plan_is_shown(empty: Path, open_page: Open):
    test = open_page(CAPACITY, plan="DeepSeek-R1")
    [one] = capacity.plan(
        next(one for one in models() if one.model == "DeepSeek-R1"),
        Precision.FP8,
        8_192,
        16,
        [next(kind for kind in accelerators() if kind.model == "Instinct MI300X")],
    )
    shown = test.table[0].value
    assert list(shown["name"]) == [term.name for term in one.terms]
    assert [html.unescape(text) for text in shown["arithmetic"]] == [str(term.arithmetic) for term in one.terms]


def test_the_rate_is_of_the_time_at_work_and_of_one_accelerator(full: Path, now_ms: int):
    twin = Entity(
        observed_at_ms=now_ms,
        family="accelerator",
        key="AMD-twin",
        host=HOST,
        parent_key=HOST,
        labels={"vendor": "AMD", "model": "Instinct MI300X"},
    )
    add(full, twin, *serving(now_ms, [AMD, "AMD-twin"], minutes=50, working=30))
    assert rates(full, now_ms) == {"Instinct MI300X": pytest.approx(RATE / 2, rel=0.01)}  # steps of five minutes


@pytest.mark.parametrize("targets", [[NVIDIA], [NVIDIA, AMD]])
def test_what_cannot_be_told_apart_is_not_measured(full: Path, now_ms: int, targets: list[str]):
    """The first accelerator serves another deployment too, and both together are of two types."""
    add(full, *serving(now_ms, targets))
    assert rates(full, now_ms) == {}


def test_what_grew_unwatched_is_not_taken_for_a_short_time(full: Path, now_ms: int):
    add(full, *serving(now_ms, [AMD], minutes=50, silent=range(12, 24)))
    assert rates(full, now_ms) == {"Instinct MI300X": pytest.approx(RATE)}
