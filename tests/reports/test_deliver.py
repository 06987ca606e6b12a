"""Sending a summary: through the real library, to a real mail server and a real webhook."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from analytics.weekly import WeeklySummary
from core.summary import Delivery
from reports.deliver import send, without_secrets
from reports.words import Words, words
from tests.analytics.weeks import settings
from tests.reports.receiving import hook, mailbox

Summaries = Callable[[str], WeeklySummary]
TO = Delivery(name="managers", url_env="VATIO_MAIL_URL", format=("pdf", "csv"))


def spoken(summary: WeeklySummary, language: str) -> Words:
    return words(language, settings().site.zone, summary.exchange)


def test_a_mail_has_the_first_page_and_the_files(summaries: Summaries):
    summary = summaries("whole")
    with mailbox() as box:
        assert send(summary, TO, box.url, spoken(summary, "es")) == ""
    (mail,) = box.mails
    assert mail["subject"] == "Resumen semanal de eficiencia, 2026-W40"
    assert "boss@example.org" in mail["to"]
    text = mail.get_body(("plain",))
    assert text is not None
    content = text.get_content()
    assert "Simulado" in content
    assert "Costo total" in content
    assert "=llama &" in content  # a name with markup arrives as it is
    files = {part.get_filename(): part.get_payload(decode=True) for part in mail.iter_attachments()}
    assert set(files) == {"vatio-simulated-2026-W40.pdf", "vatio-simulated-2026-W40.csv"}
    assert files["vatio-simulated-2026-W40.pdf"].startswith(b"%PDF")  # type: ignore[union-attr]


def test_a_webhook_gets_it_too(summaries: Summaries):
    summary = summaries("whole")
    with hook() as server:
        assert send(summary, TO, server.url, spoken(summary, "en")) == ""
    (taken,) = server.taken
    assert taken["title"] == "Weekly efficiency summary, 2026-W40"
    assert "Total cost" in taken["message"]


@pytest.mark.parametrize("status", [500, 403])
def test_what_a_service_says_of_a_failure_has_no_secret(summaries: Summaries, status: int):
    summary = summaries("whole")
    with hook() as server:
        server.status = status
        said = send(summary, TO, server.url, spoken(summary, "en"))
    assert said
    assert not any(secret in said for secret in ("hunter2", "hook-token", "watt"))


def test_nobody_there_and_no_address_are_one_line(summaries: Summaries):
    summary = summaries("whole")
    with hook() as server:
        gone = server.url
    for url in (gone, "nonsense", "nosuch://x", "mailto://"):
        said = send(summary, TO, url, spoken(summary, "en"))
        assert said
        assert len(said.splitlines()) == 1
    assert "VATIO_MAIL_URL" in said


def test_secrets_are_taken_out_wherever_they_stand():
    url = "slack://xoxb-1234-abcd/#general?token=s3cr%2Fet&to=me"
    said = "xoxb-1234-abcd refused s3cr/et and s3cr%2Fet for general"
    assert without_secrets(said, url) == "… refused … and … for …"
    assert without_secrets("cannot reach mail.example.org:25", "mailto://a:pass@mail.example.org:25") == (
        "cannot reach mail.example.org:25"
    )
