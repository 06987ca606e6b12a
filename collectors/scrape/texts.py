"""Texts that strangers chose, fit to be a name or label of ours."""

from __future__ import annotations

MAX_TEXT = 200


def presentable(text: str) -> str:
    """A text on one line, without control characters, not endless; may be empty."""
    return (text if text.isprintable() else "".join(filter(str.isprintable, text))).strip()[:MAX_TEXT]
