"""The files of Streamlit's frontend, kept in memory: a first visit asks for 140 while its page is being computed."""

from __future__ import annotations

from pathlib import Path, PurePosixPath

import streamlit as st
from starlette.datastructures import Headers
from starlette.responses import FileResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send

_FOLDER = Path(st.__file__).parent / "static" / "static"
_FOR_A_YEAR = "public, immutable, max-age=31536000"  # as Streamlit says: a file's name changes with what is in it
_IN_PART = frozenset({"range", "if-none-match", "if-modified-since"})


class Files:
    """Middleware that answers as Streamlit would, which asks another thread five times for each file."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        place = PurePosixPath("/", st.get_option("server.baseUrlPath").strip("/"), "static")
        self._files = {
            str(place / file.relative_to(_FOLDER).as_posix()): file for file in _FOLDER.rglob("*") if file.is_file()
        }
        self._read: dict[str, Response] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        answer = self._app
        asked = scope["path"] if scope["type"] == "http" and scope["method"] == "GET" else ""
        if asked in self._files and not _IN_PART.intersection(Headers(scope=scope)):
            answer = self._whole(asked)
        await answer(scope, receive, send)

    def _whole(self, path: str) -> Response:
        if path not in self._read:
            file = self._files[path]
            told = FileResponse(file, stat_result=file.stat(), headers={"cache-control": _FOR_A_YEAR})
            self._read[path] = Response(file.read_bytes(), headers=dict(told.headers))
        return self._read[path]
