"""An hour of a real server's life: its metrics page every ten seconds, and the client's books beside it.

``hour.json.xz`` holds the pages. Most lines of a page say what the page before said, so each page is stored as
the series that changed, with ``null`` for those that vanished; ``null`` alone is a page that did not come.
``hour.json`` holds the books, burst by burst, readable and small. Only series of the engine and its process
are kept.
"""

from __future__ import annotations

import json
import lzma
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from tests.servers.client import Counted

KEPT = ("vllm:", "process_")


@dataclass(frozen=True, slots=True)
class Page:
    """One look at the server; ``lines`` maps a series as written to its value as written, ``None``: no answer."""

    at_ms: int
    lines: dict[str, str] | None


@dataclass(frozen=True, slots=True)
class Burst:
    """Requests sent together, from before the first was sent until after the last was answered."""

    began_at_ms: int
    ended_at_ms: int
    counted: Counted


@dataclass(frozen=True, slots=True)
class Hour:
    pages: Sequence[Page]
    bursts: Sequence[Burst]

    def save(self, folder: Path) -> None:
        text = json.dumps(list(_packed(self.pages)), separators=(",", ":"))
        (folder / "hour.json.xz").write_bytes(lzma.compress(text.encode(), preset=9 | lzma.PRESET_EXTREME))
        books = ",\n".join(json.dumps(asdict(burst)) for burst in self.bursts)
        (folder / "hour.json").write_text(f"[\n{books}\n]\n", "utf-8")

    @classmethod
    def load(cls, folder: Path) -> Hour:
        packed = json.loads(lzma.decompress((folder / "hour.json.xz").read_bytes()))
        books = json.loads((folder / "hour.json").read_text("utf-8"))
        bursts = [Burst(b["began_at_ms"], b["ended_at_ms"], Counted(**b["counted"])) for b in books]
        return cls(list(_unpacked(packed)), bursts)


def kept_lines(page: str) -> dict[str, str]:
    """The series of a page that are worth keeping."""
    lines = (line.rpartition(" ") for line in page.splitlines() if line.startswith(KEPT))
    return {series: value for series, _, value in lines}


def _packed(pages: Sequence[Page]) -> Iterator[tuple[int, Mapping[str, str | None] | None]]:
    before: dict[str, str] = {}
    for page in pages:
        if page.lines is None:
            yield page.at_ms, None
            continue
        gone = dict.fromkeys(before.keys() - page.lines.keys())
        yield page.at_ms, gone | {series: value for series, value in page.lines.items() if before.get(series) != value}
        before = page.lines


def _unpacked(packed: Iterable[tuple[int, Mapping[str, str | None] | None]]) -> Iterator[Page]:
    lines: dict[str, str] = {}
    for at_ms, changed in packed:
        if changed is None:
            yield Page(at_ms, None)
            continue
        lines = {series: value for series, value in (lines | changed).items() if value is not None}
        yield Page(at_ms, lines)
