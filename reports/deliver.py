"""Send a weekly summary to somebody: its first page as text, and files where the service takes them.

Addresses are those of Apprise (https://github.com/caronc/apprise): mail, Slack, Teams, webhooks and many others.
They hold passwords and tokens, so none is ever shown, written down, or left in what a service says of a failure.
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote, urlsplit

import apprise

from analytics.weekly import WeeklySummary
from core.summary import Delivery
from reports import weekly
from reports.document import Document, document
from reports.figures import one_line
from reports.sections import Section
from reports.words import Words

MOST_TEXT = 6_000
MOST_ERROR = 300
LEAST_SECRET = 4  # shorter parts of an address are ports and words such as "to"
_HOST_LIKE = re.compile(r"[\w-]+(\.[\w-]+)+|localhost")


def send(summary: WeeklySummary, to: Delivery, url: str, words: Words) -> str:
    """Send it; returns why it could not be sent, empty where it was taken.

    Args:
        summary: the week.
        to: who gets it, with the files that go along.
        url: its address.
        words: the language and the currency.
    """
    services = apprise.Apprise(asset=apprise.AppriseAsset(app_id="Vatio", app_desc="Vatio"))
    if not services.add(url):
        return f"the address in {to.url_env} is none that is known: see docs/recipes.md"
    (service,) = services
    said = document(summary, words)
    body = "\n".join(_fitting(_lines(said), min(service.body_maxlen, MOST_TEXT)))
    heard: list[str] = []
    with tempfile.TemporaryDirectory() as folder:
        files = weekly.write(summary, to.format, Path(folder), words) if service.attachment_support else []
        taken = services.notify(
            title=said.title,
            body=body,
            body_format=apprise.NotifyFormat.TEXT,
            attach=[str(file) for file in files],
            log_callback=lambda entry, _: heard.append(entry.message),
            log_level=apprise.logging.WARNING,
        )
    if taken:
        return ""
    return without_secrets(one_line(heard[-1] if heard else "the service did not take it", MOST_ERROR), url)


def without_secrets(text: str, url: str) -> str:
    """A text without any part of an address but the name of its host."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    pieces = re.split(r"[/?&=:@#,]+", url.partition("://")[2])
    known = {host} if _HOST_LIKE.fullmatch(host) else set()
    secrets = {form for piece in pieces for form in (piece, unquote(piece)) if len(form) >= LEAST_SECRET} - known
    for secret in sorted(secrets, key=len, reverse=True):
        text = text.replace(secret, "…")
    return text


def _lines(said: Document) -> Iterator[str]:
    """The first page, most important first."""
    yield from said.notices
    yield " ".join(said.verdict)
    yield said.subtitle
    yield ""
    for tile in said.tiles:
        yield f"{tile.label}: {' · '.join(part for part in (tile.value, tile.change) if part)}"
    for section in said.first:
        yield from _section(section)


def _section(section: Section) -> Iterator[str]:
    yield f"\n{section.title}"
    yield from section.lines
    if section.table is not None:
        for number, row in enumerate(section.table.rows, start=1):
            yield f"{number}. {' · '.join(cell for cell in row if cell)}"


def _fitting(lines: Iterator[str], most: int) -> Iterator[str]:
    """Whole lines, as many as a service takes."""
    left = most
    for line in lines:
        left -= len(line) + 1
        if left < 0:
            return
        yield line
