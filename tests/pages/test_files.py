"""The files of Streamlit's frontend are answered from memory, just as Streamlit itself answers."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
import streamlit as st
from starlette.responses import PlainTextResponse

from pages.shared.files import Files
from tests.e2e.daemon import settings_file
from tests.e2e.dashboard import serving

STATIC = Path(st.__file__).parent / "static" / "static"
PATHS = sorted(path.relative_to(STATIC).as_posix() for path in STATIC.rglob("*") if path.is_file())
JAVASCRIPT = "text/javascript; charset=utf-8"
BY_STREAMLIT = {"If-None-Match": '"another"'}  # what is asked for under a condition is not answered from memory


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    config: Path = settings_file(tmp_path_factory.mktemp("files"))
    with serving(config) as address, httpx.Client(base_url=f"{address}/static/") as client:
        yield client


def asked(path: str, method: str = "GET", **headers: str) -> httpx.Response:
    """What is answered before an app that only says that it was asked."""

    async def answer() -> httpx.Response:
        transport = httpx.ASGITransport(Files(PlainTextResponse("asked")))
        async with httpx.AsyncClient(transport=transport, base_url="http://vatio") as client:
            return await client.request(method, path, headers=headers)

    return asyncio.run(answer())


def test_a_file_comes_as_streamlit_sends_it_but_compressed(client: httpx.Client):
    assert len(PATHS) > 100
    for path in PATHS:
        ours, theirs = client.get(path), client.get(path, headers=BY_STREAMLIT)
        assert ours.content == theirs.content == (STATIC / path).read_bytes()
        assert ours.status_code == theirs.status_code == 200
        told, expected = ({**answer.headers, "date": ""} for answer in (ours, theirs))
        if path.endswith((".js", ".css")):
            assert (told.pop("content-encoding"), told.pop("vary")) == ("gzip", "Accept-Encoding")
            assert told.pop("etag") == f"W/{expected.pop('etag')}"
            for either in (told, expected):  # Streamlit sets a type of its own as it starts
                either["content-type"] = either["content-type"].replace("application/javascript", JAVASCRIPT)
            assert int(told.pop("content-length")) < int(expected.pop("content-length")) or len(ours.content) < 200
        assert told == expected


def test_a_browser_that_has_a_file_is_told_so(client: httpx.Client):
    tag = client.get(PATHS[0]).headers["ETag"]
    assert client.get(PATHS[0], headers={"If-None-Match": tag}).status_code == 304
    assert client.get(PATHS[0], headers={"Range": "bytes=0-9"}).content == (STATIC / PATHS[0]).read_bytes()[:10]


@pytest.mark.parametrize("base", ["", "ops/vatio", "/ops/vatio/"])
def test_it_stands_below_the_path_of_the_dashboard(base: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(st, "get_option", {"server.baseUrlPath": base}.__getitem__)
    below = f"/{base.strip('/')}".rstrip("/")
    assert asked(f"{below}/static/{PATHS[0]}").content == (STATIC / PATHS[0]).read_bytes()
    assert asked(f"{below}/other/static/{PATHS[0]}").text == "asked"


@pytest.mark.parametrize("path", ["/", "/static", "/static/", "/static/js", "/static/../index.html", "/static/no.js"])
def test_everything_else_is_left_to_streamlit(path: str):
    assert asked(path).text == "asked"


@pytest.mark.parametrize("method", ["HEAD", "POST"])
def test_only_who_asks_for_the_file_itself_gets_it(method: str):
    assert int(asked(f"/static/{PATHS[0]}", method).headers["Content-Length"]) == len("asked")


@pytest.mark.parametrize("encoding", ["identity", "br"])
def test_who_cannot_read_what_is_compressed_is_left_to_streamlit(encoding: str):
    assert asked(f"/static/{PATHS[0]}", **{"Accept-Encoding": encoding}).text == "asked"
