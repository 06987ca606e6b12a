"""cost/tokens: the denominator in words, lines that add up, and what to do where a figure is missing."""

from __future__ import annotations

import html
import time
import tomllib
from pathlib import Path

import pytest
import streamlit as st

from core.readings import Assignment, DeploymentSample, Entity
from core.settings import Settings
from tests.pages.additions import add, configure, metric, said
from tests.pages.conftest import Open
from tests.pages.databases import AMD, DEPLOYMENT, HOST, NVIDIA

TOKENS = "cost/tokens"
QUIET = "http://127.0.0.1:9000 quiet"
OWNED = """
[[cost.hardware]]
kind = "owned"
applies_to = "accelerator"
match = "H100"
capex = 35040
life_years = 4
"""
RENTED = """
[[cost.hardware]]
kind = "rented"
applies_to = "accelerator"
match = "H100"
per_hour = 2.0
"""
TARIFF = "usd_per_kwh = 0.36\npue_ratio = 1.0\n"  # follows [site], the last section of the fixture
TOKENS_PER_SECOND = 250  # of the fixture's deployment
WATTS = 500  # by its accelerator's counter


def table(test, column: str):
    return next(one.value for one in test.dataframe if column in one.value)


def test_without_a_server_there_is_nothing_to_divide_by(empty: Path, open_page: Open):
    assert "there are no tokens to divide by" in said(open_page(TOKENS))


def test_without_a_price_energy_works_and_money_asks_for_one(full: Path, open_page: Open):
    test = open_page(TOKENS)
    text = said(test)
    assert metric(test, "USD per million output tokens") == "set a price"
    assert metric(test, "Cost") == "set a price"
    assert metric(test, "Energy per output token").endswith(" J")
    assert "No price per token (set a price)" in text
    assert not [box for box in test.metric if "0 USD" in str(box.value)]


def test_the_lines_to_paste_are_accepted_and_lead_to_a_price(full: Path, open_page: Open):
    snippet = next(block.value for block in open_page(TOKENS).code if "[[cost.hardware]]" in block.value)
    parsed = Settings(**tomllib.loads(snippet))
    assert {price.match for price in parsed.cost.hardware} == {"H100 80GB HBM3", "Instinct MI300X"}
    file = full.with_name("vatio.toml")
    given = file.read_text().partition("[site]")[0]  # the snippet has a [site] of its own
    file.write_text(given + snippet)
    _forget()
    test = open_page(TOKENS)
    assert metric(test, "USD per million output tokens").endswith(" USD")
    assert "Set a price" not in said(test)


def _forget() -> None:
    st.cache_data.clear()
    st.cache_resource.clear()


def test_owned_hardware_and_electricity_add_up_to_the_cost(full: Path, open_page: Open):
    configure(full, TARIFF + OWNED)
    test = open_page(TOKENS)
    said(test)
    lines = table(test, "cost_usd").set_index("part")["cost_usd"]
    assert lines["Hardware"] + lines["Electricity"] == pytest.approx(lines["Cost of the deployments"])
    assert lines["Electricity"] > 0
    row = table(test, "usd_per_million_output_tokens").iloc[0]
    assert row["total_usd"] == pytest.approx(lines["Cost of the deployments"])
    assert row["usd_per_million_output_tokens"] == pytest.approx(
        round(row["total_usd"] / row["output_tokens"] * 1e6, 2)
    )
    assert metric(test, "Cost") == f"{row['total_usd']:.4f} USD"


def test_a_currency_without_a_rate_is_named_where_money_would_stand(full: Path, open_page: Open):
    configure(full, RENTED + 'currency = "CLP"\n')
    test = open_page(TOKENS)
    assert metric(test, "Cost") == "no exchange rate for CLP"
    assert "No price per token (no exchange rate for CLP)" in said(test)


def test_the_price_of_a_country_is_shown_as_the_default_it_is(full: Path, open_page: Open):
    configure(full, 'country = "CL"\n' + OWNED)
    test = open_page(TOKENS)
    assert metric(test, "Cost").endswith(" USD")
    inputs = [one.value["Source"] for one in test.dataframe if "Source" in one.value]
    assert any(column.str.startswith("default of CL, 2023-2026 average").any() for column in inputs)


def test_the_unit_price_is_the_one_computed_by_hand(full: Path, open_page: Open):
    # 2 USD/h over 250 output tokens/s: 2 / 3600 / 250 * 1e6; the fixture was seen for 20 minutes of the hour
    configure(full, RENTED)
    test = open_page(TOKENS, range="15m")
    assert metric(test, "USD per million output tokens") == "2.22 USD"
    per_token = float(metric(test, "Energy per output token").removesuffix(" J"))
    assert per_token == pytest.approx(WATTS / TOKENS_PER_SECOND, rel=0.02)
    assert "2.22 USD per million output tokens in the last 15 minutes" in said(test)
    assert "Electricity is inside the hardware price" in said(test)


def test_where_the_energy_comes_from_and_what_it_leaves_out_is_said(full: Path, open_page: Open):
    text = said(open_page(TOKENS, range="15m"))
    assert "host memory, network, fans, supplies and cooling not included" in text
    assert "found by process ids" in text


def test_every_figure_opens_to_its_terms(full: Path, open_page: Open):
    configure(full, TARIFF + OWNED)
    test = open_page(TOKENS, range="15m")
    text = said(test)
    for formula in ("cost / output tokens", "energy / output tokens", "hours assigned × hardware price per hour"):
        assert formula in text
    inputs = [one.value for one in test.dataframe if list(one.value.columns) == ["Input", "Value", "Source"]]
    assert len(inputs) == 18  # nine figures of the whole, nine of the deployment
    everything = " ".join(str(value) for frame in inputs for value in frame.to_numpy().ravel())
    assert "0.36 USD/kWh" in everything
    assert "settings: cost.hardware.0 (owned)" in everything


def test_no_tokens_is_neither_zero_nor_infinite(full: Path, open_page: Open):
    configure(full, RENTED.replace("H100", ""))
    joined = Assignment(
        deployment_key=QUIET,
        target_family="accelerator",
        target_keys=(AMD,),
        origin="settings",
        observed_at_ms=int(time.time() * 1000) - 900_000,
    )
    add(full, *_quiet_server(), joined)
    test = open_page(TOKENS, range="15m", deployment=QUIET)
    text = said(test)
    assert metric(test, "USD per million output tokens") == "no tokens"
    assert metric(test, "Energy per output token") == "no tokens"
    assert metric(test, "Cost").endswith(" USD")  # it costs all the same
    assert "No tokens in the last 15 minutes; cost: 0." in text


def _quiet_server():
    """A server that is asked nothing."""
    now = int(time.time() * 1000)
    labels = {"model": "quiet", "engine": "vLLM", "url": "http://127.0.0.1:9000"}
    yield Entity(observed_at_ms=now - 900_000, family="deployment", key=QUIET, host=HOST, labels=labels)
    for at_ms in range(now - 900_000, now, 10_000):
        yield DeploymentSample(
            key=QUIET, observed_at_ms=at_ms, generation_tokens_total=7.0, prompt_tokens_total=9.0, running_requests=0.0
        )


def test_what_is_not_joined_is_listed_with_the_lines_to_paste(full: Path, open_page: Open):
    configure(full, RENTED)
    add(full, *_quiet_server())
    test = open_page(TOKENS)
    assert "Not known what they run on" in said(test)
    snippet = next(block.value for block in test.code if "[[serving.server]]" in block.value)
    server = Settings(**tomllib.loads(snippet)).serving.server[0]
    assert server.url == "http://127.0.0.1:9000"
    assert server.accelerators[0] in (NVIDIA, AMD)


def test_devices_that_serve_nobody_are_named_beside_the_verdict(full: Path, open_page: Open):
    configure(full, RENTED.replace("H100", ""))
    assert "1 device was held by no known deployment" in said(open_page(TOKENS, range="15m"))


def test_by_samples_overhead_trend_and_what_if_wait_for_a_whole_hour(full: Path, open_page: Open):
    configure(full, RENTED)
    text = said(open_page(TOKENS, range="15m"))
    assert "By samples: hardware and electricity alone" in text
    assert text.count("No accounted hour lies in this window") == text.count("choose 1h or more") == 3
    assert "wait until the first whole hour is over" in said(open_page(TOKENS, range="1h"))


def test_a_stale_database_still_has_its_cost(stale: Path, open_page: Open):
    configure(stale, RENTED)
    test = open_page(TOKENS)
    assert "Nothing can be said of the present" in said(test)
    assert metric(test, "Cost").endswith(" USD")


def test_a_server_on_cpus_is_charged_to_its_host(cpu_only: Path, open_page: Open):
    now = int(time.time() * 1000)
    labels = {"model": "llama", "engine": "llama.cpp", "url": "http://127.0.0.1:8080"}
    add(
        cpu_only,
        Entity(observed_at_ms=now - 1_200_000, family="deployment", key=DEPLOYMENT, host=HOST, labels=labels),
        Assignment(
            deployment_key=DEPLOYMENT,
            target_family="host",
            target_keys=(HOST,),
            origin="processes",
            observed_at_ms=now - 1_200_000,
        ),
        *(
            DeploymentSample(key=DEPLOYMENT, observed_at_ms=at, generation_tokens_total=at / 1000.0 * 20)
            for at in range(now - 1_200_000, now, 10_000)
        ),
    )
    test = open_page(TOKENS, range="15m")
    text = said(test)
    assert "CPU packages" in text
    snippet = next(block.value for block in test.code if "[[cost.hardware]]" in block.value)
    assert Settings(**tomllib.loads(snippet)).cost.hardware[0].applies_to == "host"


def test_model_names_are_text(full: Path, open_page: Open):
    add(full, *_quiet_server())
    assert "<script>" not in "".join(html.unescape(one.value) for one in open_page(TOKENS).code)
