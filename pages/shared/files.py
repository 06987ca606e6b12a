"""The files of Streamlit's frontend, kept in memory: a first visit asks for 140 while its page is being computed."""

from __future__ import annotations

import gzip
from pathlib import Path, PurePosixPath

import streamlit as st
from starlette.datastructures import Headers
from starlette.responses import FileResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send

_FOLDER = Path(st.__file__).parent / "static" / "static"
_FOR_A_YEAR = "public, immutable, max-age=31536000"  # as Streamlit says: a file's name changes with what is in it
_TEXT = {".js", ".css"}
_IN_PART = frozenset({"range", "if-none-match", "if-modified-since"})


class Files:
    """Middleware that answers as Streamlit would, which asks another thread five times for each file.

    Text is sent compressed, 1.8 instead of 5.7 MB for a first visit; whoever cannot read that is answered by Streamlit.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        place = PurePosixPath("/", st.get_option("server.baseUrlPath").strip("/"), "static")
        self._answers = {
            str(place / file.relative_to(_FOLDER).as_posix()): _answer(file)
            for file in _FOLDER.rglob("*")
            if file.is_file()
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        whole = self._answers.get(scope["path"]) if scope["type"] == "http" and scope["method"] == "GET" else None
        headers = Headers(scope=scope) if whole else Headers()
        if whole and "gzip" in headers.get("accept-encoding", "") and not _IN_PART.intersection(headers):
            await whole(scope, receive, send)
        else:
            await self._app(scope, receive, send)


def _answer(file: Path) -> Response:
    told = FileResponse(file, stat_result=file.stat(), headers={"cache-control": _FOR_A_YEAR})
    headers, content = dict(told.headers), file.read_bytes()
    if file.suffix in _TEXT:
        content = gzip.compress(content, 6, mtime=0)
        headers |= {"content-encoding": "gzip", "vary": "Accept-Encoding", "etag": f"W/{headers['etag']}"}
        headers["content-length"] = str(len(content))
    return Response(content, headers=headers)
