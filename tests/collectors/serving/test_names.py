"""Names that are new to Vatio, and names that are gone: what is said of them, and how often."""

from __future__ import annotations

import pytest

from collectors.scrape.exposition import Page
from collectors.sources.serving.names import MAX_NAME, MAX_NAMED, MAX_REMEMBERED, Census, News
from collectors.sources.serving.vllm import VLLM
from core.readings import DeploymentSample, Event, Severity
from tests.collectors.serving.collecting import collect, of
from tests.collectors.serving.pages import opened, recorded

PAGE = recorded("vllm-0.32-lora")
NEW = "# TYPE vllm:dream_tokens_total counter\n"
NEWER = "# TYPE vllm:nightmares gauge\n"


def news(census: Census, text: str, version: str = "0.32", *, worked: bool = True) -> str:
    scrape = opened(text)
    return str(census.news(scrape.engine, scrape.page, version, worked=worked) or "")


def without(text: str, *names: str) -> str:
    return "\n".join(line for line in text.splitlines() if not any(name in line for name in names)) + "\n"


def test_what_is_unknown_is_said_once_and_again_when_there_is_more():
    census = Census()
    assert news(census, PAGE) == ""
    assert news(census, PAGE + NEW) == "shows what Vatio does not know: vllm:dream_tokens_total"
    assert news(census, PAGE + NEW) == ""
    assert news(census, PAGE) == ""
    assert news(census, PAGE + NEW) == ""  # it comes and goes
    assert news(census, PAGE + NEW + NEWER) == "shows what Vatio does not know: vllm:nightmares"


def test_another_version_is_looked_at_anew():
    census = Census()
    said = news(census, PAGE + NEW, version="")  # the server was not asked yet
    assert "dream" in said
    assert news(census, PAGE + NEW, version="0.32") == ""
    assert news(census, PAGE + NEW, version="0.33") == said
    assert news(census, PAGE + NEW, version="0.33") == ""


def test_a_quantity_that_is_gone_under_all_its_names_is_said():
    census = Census()
    assert news(census, without(PAGE, "vllm:num_preemptions", "vllm:request_queue_time_seconds")) == (
        "does not show preemptions_total, queue"
    )
    assert news(census, without(PAGE, "vllm:num_preemptions", "vllm:request_queue_time_seconds")) == ""


def test_a_rename_is_both():
    text = PAGE.replace("vllm:generation_tokens", "vllm:output_tokens")
    assert news(Census(), text) == (
        "does not show generation_tokens_total; shows what Vatio does not know: vllm:output_tokens_total"
    )


def test_series_that_come_with_the_first_request_are_not_missed_before_it():
    census, idle = Census(), without(PAGE, "vllm:num_preemptions")
    assert news(census, idle, worked=False) == ""
    assert news(census, idle, worked=True) == "does not show preemptions_total"


@pytest.mark.parametrize(
    ("missing", "severity"),
    [
        ("running_requests", Severity.WARNING),
        ("waiting_requests", Severity.WARNING),
        ("generation_tokens_total", Severity.WARNING),
        ("ttft", Severity.WARNING),
        ("preemptions_total", Severity.INFO),
        ("itl", Severity.INFO),
    ],
)
def test_what_pages_cannot_do_without_is_a_warning(missing, severity):
    assert News(frozenset(), frozenset((missing, "queue"))).severity is severity
    assert News(frozenset((missing,)), frozenset()).severity is Severity.INFO


@pytest.mark.parametrize(
    "line",
    [
        "# TYPE vllm:num_requests_running_created gauge",  # when a series began
        "# TYPE python_gc_objects_collected_total counter",
        "# TYPE other_exporter_things gauge",
        '# TYPE vllm:<script>alert("x")</script> gauge',  # no name at all
        "# TYPE vllm:\N{ZERO WIDTH SPACE} gauge",
    ],
)
def test_what_is_no_news(line):
    assert news(Census(), f"{PAGE}{line}\n") == ""


def test_a_page_full_of_inventions_is_said_briefly_and_remembered_within_bounds():
    census = Census()
    for batch in range(5):
        types = {f"vllm:invented_{batch}_{number}_{'x' * 500}": "gauge" for number in range(200)}
        said = census.news(VLLM, Page(types=types), "0.32", worked=False)
        assert len(str(said or "")) < (MAX_NAMED + 2) * (MAX_NAME + 2)
    assert len(census._said) == MAX_REMEMBERED
    assert max(map(len, census._said)) <= MAX_NAME


def unknown(readings):
    return [event for event in of(Event, readings) if event.kind == "unknown metrics"]


def test_the_event_of_a_server(build, server):
    server.show(PAGE)
    server.pages["/version"] = '{"version": "0.33.1"}'
    source = build([server.port])
    assert unknown(collect(source)) == []
    server.show(PAGE.replace("vllm:num_requests_running", "vllm:num_requests_active"))
    readings = collect(source)
    (event,) = unknown(readings)
    assert (event.severity, event.family, event.key) == (
        Severity.WARNING,
        "deployment",
        f"{server.url} acme/tiny-1b",
    )
    assert event.message == (
        f"vLLM 0.33.1 at {server.url} does not show running_requests; "
        "shows what Vatio does not know: vllm:num_requests_active"
    )
    (sample,) = of(DeploymentSample, readings)  # the rest is read on
    assert (sample.running_requests, sample.waiting_requests) == (None, 32)
    assert unknown(collect(source)) == []


def test_it_is_said_once_of_each_server(build, server):
    server.show(PAGE + NEW)
    source = build([server.port])
    assert len(unknown(collect(source))) == 1
    source.discover()
    assert unknown(collect(source)) == []
    server.pages["/version"] = '{"version": "0.34"}'
    server.show(PAGE.replace("1.76000000025e+09", "1.77e+09") + NEW)  # a restart, with another version
    assert "0.34" in unknown(collect(source))[0].message
