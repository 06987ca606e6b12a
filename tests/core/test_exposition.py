from __future__ import annotations

import re

import pytest

from core.catalog import FAMILIES
from core.exposition import (
    ID_LABELS,
    INFO,
    LATENCIES,
    METRICS,
    OWN,
    described,
    exposed,
    labels_read,
    labels_shown,
    metric_of,
)
from core.metric import Kind, Metric
from core.readings import Latency

EVERY = [metric for family in FAMILIES.values() for metric in family.metrics]
NAME = re.compile(r"[a-z][a-z0-9_]*")


@pytest.mark.parametrize("metric", EVERY, ids=lambda metric: f"{metric.family}.{metric.name}")
def test_a_name_is_valid_tells_unit_and_kind_and_leads_back_to_its_metric(metric: Metric):
    series = exposed(metric)
    assert NAME.fullmatch(series.name)
    assert all(NAME.fullmatch(label) for label in series.labels)
    assert series.name.endswith("_total") == (metric.kind is Kind.COUNTER)
    assert series.name.removesuffix("_total").endswith(metric.unit.suffix)
    assert metric_of(series.name, {**series.labels, "hw_id": "x", "host": "y"}) is metric
    assert described(series.name).type == ("counter" if metric.kind is Kind.COUNTER else "gauge")


def test_no_name_stands_for_two_things():
    names = [str(exposed(metric)) for metric in EVERY]
    others = [*LATENCIES.values(), *(series.name for series in (*INFO.values(), *OWN))]
    assert len(set(names)) == len(names)
    assert len({*METRICS, *others}) == len(METRICS) + len(others)
    for family in (INFO, ID_LABELS):
        assert set(family) == set(FAMILIES)
    assert set(LATENCIES) == set(Latency)


def test_opentelemetry_s_names_are_taken_where_they_mean_the_same():
    assert str(exposed(FAMILIES["accelerator"].metric("power_watts"))) == 'hw_power_watts{hw_type="gpu"}'
    assert str(exposed(FAMILIES["cpu"].metric("energy_joules_total"))) == 'hw_energy_joules_total{hw_type="cpu"}'
    assert exposed(FAMILIES["accelerator"].metric("sm_active_ratio")).name == "vatio_accelerator_sm_active_ratio"
    assert LATENCIES[Latency.TPOT] == "gen_ai_server_time_per_output_token_seconds"


def test_a_name_that_several_metrics_share_is_explained_for_each():
    help_text = described("hw_power_watts").help
    assert "accelerator power" in help_text
    assert "cpu power" in help_text


def test_a_series_that_is_no_metric_of_ours_is_none():
    assert metric_of("up", {}) is None
    assert metric_of("hw_power_watts", {"hw_type": "disk_controller"}) is None


def test_labels_come_back_whatever_they_are_called():
    labels = {"host": "not the page's", "hw_id": "7", "le": "1", "vendor": "", "model": "a\nb"}
    shown = dict(labels_shown({**labels, "app.kubernetes.io/name": "no name of a label"}))
    assert shown.keys().isdisjoint({"host", "hw_id", "le"})
    assert labels_read({**shown, "host": "box", "hw_id": "GPU-1"}) == labels
