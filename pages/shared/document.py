"""The document that a browser gets first: its language and title, where its server is, and what it draws first."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import parse_qs

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from core.language import SOURCE, languages

_HERE = b'<script>window.__streamlit = {BACKEND_BASE_URL: new URL(".", location.href).href}</script>'
"""Where the document's own files lie. Streamlit would ask below the page's own address, and wait 0.1 s after a no."""

_NEAREST = b"<script>%b</script>" % Path(__file__).with_name("nearest.js").read_bytes()


class Document:
    """Middleware that completes Streamlit's document, which is the same for every app, and leaves all else alone."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        if (
            scope["type"] == "http"
            and scope["method"] == "GET"
            and "text/html" in Headers(scope=scope).get("accept", "")
        ):
            send = _Completed(send, _language(scope))
            scope["headers"] = [header for header in scope["headers"] if header[0] != b"accept-encoding"]  # it is short
        await self._app(scope, receive, send)


class _Completed:
    """Holds an answer in HTML back until all of it is there."""

    def __init__(self, send: Send, language: str) -> None:
        self._send = send
        self._language = language
        self._start: Message | None = None
        self._body = b""

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start" and _is_html(Headers(raw=message["headers"])):
            self._start = message
            return
        if self._start is None:
            await self._send(message)
            return
        self._body += message.get("body", b"")
        if message.get("more_body"):
            return
        body = _complete(self._body, self._language)
        if body != self._body:
            headers = MutableHeaders(scope=self._start)
            headers["content-length"] = str(len(body))
            for name in ("etag", "last-modified", "accept-ranges"):  # they are the file's
                del headers[name]
        await self._send(self._start)
        await self._send({"type": "http.response.body", "body": body})


def _is_html(headers: Headers) -> bool:
    return headers.get("content-type", "").startswith("text/html")


def _complete(body: bytes, language: str) -> bytes:
    """With what does not stand in Streamlit's document; any other, such as a summary to download, as it is."""
    parts = {
        b'<html lang="en">': b'<html lang="%b">' % language.encode(),
        b"<title>Streamlit</title>": b"<title>Vatio</title>",
        b'<script type="module"': _HERE + _NEAREST + b'<script type="module"',
    }
    if not all(old in body for old in parts):
        return body
    for old, new in parts.items():
        body = body.replace(old, new, 1)
    return body


def _language(scope: Scope) -> str:
    """The one that the address asks for, else the first of the browser, as far as there are words in it."""
    (asked, *_) = parse_qs(scope["query_string"].decode("latin-1")).get("language", [""])
    of_browser = Headers(scope=scope).get("accept-language", "")[:2].lower()
    return next((one for one in (asked, of_browser) if one in languages()), SOURCE)
