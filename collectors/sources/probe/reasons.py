"""Why a request failed: what an error says, in one line that is safe to store and to show."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

REASON_LIMIT: Final = 200

_FRAGMENT: Final = 8
_CREDENTIAL = re.compile(r"(?i)\b(bearer |sk-)\S+")


def message(document: Mapping[str, Any]) -> str:
    """The human part of an error in any of the shapes that servers use."""
    error = document.get("error")
    inner: Mapping[str, Any] = error if isinstance(error, dict) else document
    candidates = (inner.get("message"), inner.get("detail"), error, inner.get("type"), inner.get("code"))
    return next((text for text in candidates if isinstance(text, str) and text), "")


def texts(document: Mapping[str, Any]) -> Iterator[str]:
    """Every text in an error, the places that validators name included, but not the request that they repeat."""
    left: list[object] = [document]
    while left:  # as deep as it was sent, so no recursion
        value = left.pop()
        if isinstance(value, str):
            yield value
        elif isinstance(value, list):
            left += value
        elif isinstance(value, dict):
            left += [part for name, part in value.items() if name != "input"]


def presentable(text: str, key: str) -> str:
    """One printable line of at most ``REASON_LIMIT`` characters that gives no credential away.

    Whoever answers may echo the key, whole or in part: every run of ``_FRAGMENT`` characters that the key
    also has is blanked, besides what looks like a credential of somebody else.
    """
    start = text[: 10 * REASON_LIMIT]
    line = " ".join("".join(c if c.isprintable() else " " for c in start).split())
    line = _CREDENTIAL.sub(r"\1[hidden]", line)
    size = min(_FRAGMENT, len(key))
    fragments = {key[i : i + size].lower() for i in range(len(key) - size + 1)} if key else set()
    comparable = line.encode("ascii", "replace").decode().lower()  # as long as the line, character by character
    hidden = {i + j for i in range(len(line)) if comparable[i : i + size] in fragments for j in range(size)}
    line = "".join("*" if i in hidden else c for i, c in enumerate(line))
    return line if len(line) <= REASON_LIMIT else line[: REASON_LIMIT - 1] + "…"
