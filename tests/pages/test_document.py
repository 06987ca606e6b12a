"""The document that a browser gets first."""

from __future__ import annotations

import asyncio
import urllib.request
from collections.abc import Iterator
from http.client import HTTPResponse
from pathlib import Path

import httpx
import pytest
from starlette.responses import HTMLResponse

from pages.shared.document import Document
from tests.e2e.daemon import settings_file
from tests.e2e.dashboard import serving


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    config: Path = settings_file(tmp_path_factory.mktemp("document"))
    with serving(config) as address:
        yield address


def asked(address: str, **headers: str) -> tuple[HTTPResponse, str]:
    named = {name.replace("_", "-"): value for name, value in ({"Accept": "text/html"} | headers).items()}
    with urllib.request.urlopen(urllib.request.Request(address, headers=named)) as answer:
        return answer, answer.read().decode()


@pytest.mark.parametrize("page", ["", "device", "weekly?range=7d"])
def test_it_is_complete_on_every_page(page: str, url: str):
    answer, text = asked(f"{url}/{page}", Accept_Encoding="gzip, br")
    assert "<title>Vatio</title>" in text
    assert text.index("BACKEND_BASE_URL") < text.index('<script type="module"')
    assert text.rstrip().endswith("</html>")
    assert int(answer.headers["Content-Length"]) == len(text.encode())
    assert answer.headers["Cache-Control"] == "no-cache"
    assert answer.headers["ETag"] is None


@pytest.mark.parametrize(
    ("query", "of_browser", "language"),
    [
        ("", "en-US,en;q=0.9", "en"),
        ("", "es-CL,es;q=0.9,en;q=0.8", "es"),
        ("?language=pt", "es-CL,es;q=0.9", "pt"),
        ("?language=%22%3E%3Cscript%3E", "pt-BR", "pt"),
        ("?language=fr", "fr-FR,es;q=0.5", "en"),
        ("", "", "en"),
    ],
)
def test_it_is_in_the_language_that_the_page_will_speak(query: str, of_browser: str, language: str, url: str):
    _, text = asked(f"{url}/hosts{query}", Accept_Language=of_browser)
    assert f'<html lang="{language}">' in text
    assert '"><script>' not in text


def test_everything_else_is_left_alone(url: str):
    answer, text = asked(f"{url}/_stcore/health")
    assert (answer.status, text) == (200, "ok")
    answer, text = asked(f"{url}/device", Accept="*/*")
    assert "<title>Streamlit</title>" in text
    assert answer.headers["ETag"]


def test_a_summary_that_is_downloaded_stays_what_was_made():
    made = '<!doctype html>\n<html lang="en">\n<title>2026-W47</title>'
    summary = Document(HTMLResponse(made, headers={"ETag": '"7"'}))

    async def downloaded() -> httpx.Response:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(summary), base_url="http://vatio") as client:
            return await client.get("/media/1.html", headers={"Accept": "text/html", "Accept-Language": "es"})

    answer = asyncio.run(downloaded())
    assert answer.text == made
    assert answer.headers["ETag"] == '"7"'
