"""Batches on disk while the database cannot take them: in order, bounded, and replayed exactly once.

A folder of segments, each named ``<first sequence number>-<identity>.jsonl``. A line is one batch,
``[sequence,crc,content]``, the CRC-32 being that of ``sequence,content``. Numbers ascend by one for as long as
the identity lives, so a number that should be there and is not is a damaged batch. One segment is always left,
empty when all is replayed: its name carries identity and next number through restarts, and since a segment is
created before the ones before it go, a process killed at any point leaves at least one.
"""

from __future__ import annotations

import logging
import os
import re
import secrets
import zlib
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from storage.batch import Batch, from_json, to_json

log = logging.getLogger(__name__)

SEGMENT_BYTES = 1 << 20
_DIGITS = 20
_NAME = re.compile(rf"(?P<first>\d{{{_DIGITS}}})-(?P<identity>[0-9a-f]{{16}})\.jsonl")


@dataclass(frozen=True, slots=True)
class Record:
    """One batch and its number."""

    sequence: int
    batch: Batch


@dataclass(slots=True)
class _Segment:
    path: Path
    first: int  # sequence number
    size: int = 0  # bytes
    torn: bool = False  # the last line has no end, so that nothing may follow it

    def takes(self, more: int, limit: int) -> bool:
        """Whether ``more`` bytes may follow; an empty segment takes a line of any length."""
        return not self.torn and (self.size == 0 or self.size + more <= limit)

    def write(self, line: bytes) -> None:
        file = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        try:
            self.size = os.fstat(file).st_size
            written = 0
            while written < len(line):
                written += os.write(file, line[written:])
            self.size += written
        except OSError:
            self._take_back(file)
            raise
        finally:
            os.close(file)

    def _take_back(self, file: int) -> None:
        try:
            os.ftruncate(file, self.size)
        except OSError:
            self.torn = True

    def end(self) -> int:
        """Look for the number after the last one, and for a torn end.

        A torn or damaged line took a number too: it may have been stored before it was damaged.
        """
        with self.path.open("rb") as file:
            lines = file.readlines()
        self.torn = bool(lines) and not lines[-1].endswith(b"\n")
        intact = next((sound[0] for line in reversed(lines) if (sound := _sound(line))), 0)
        return max(self.first + len(lines), intact + 1)

    def lines(self, offset: int) -> Iterator[tuple[int, int, bytes]]:
        """Number, offset of the next line and content of each sound line."""
        with suppress(FileNotFoundError), self.path.open("rb") as file:  # deleted by hand: all of it is damaged
            file.seek(offset)
            for line in file:
                offset += len(line)
                if sound := _sound(line):
                    yield sound[0], offset, sound[1]


class Spool:
    """A first-in, first-out store of batches in a folder of its own; for one thread of one process.

    A batch is with the operating system when ``append`` returns: killing the process loses nothing. Only a
    finished segment is forced to disk, so a power cut may lose the last seconds.

    To replay exactly once, store each batch of ``read`` together with its number under ``identity`` in one
    transaction, then ``discard_through`` that number. After a restart begin with ``discard_through`` what the
    database remembers; until then ``waiting`` counts what was replayed out of segments that are still there.

    Every method, opening included, raises OSError where the folder cannot be read or written. What was appended
    stays, and the call can be made again.

    Attributes:
        identity: names this sequence of numbers; random, kept for as long as the folder holds a segment.
        dropped: batches deleted since opening to stay under ``max_bytes``.
        damaged: batches found unreadable since opening: cut short by a kill or a power cut, or changed on disk.
        unknown: records and fields left out since opening because another release wrote them.
    """

    def __init__(self, folder: Path, *, max_bytes: int) -> None:
        self._folder = folder
        self._max_bytes = max_bytes
        self._segment_bytes = min(SEGMENT_BYTES, max_bytes // 8)  # at most an eighth is dropped at a time
        self.dropped = 0
        self.damaged = 0
        self.unknown = 0
        self._unknown_names: set[str] = set()
        self._replayed = 0  # sequence number through which the caller has stored everything
        self._judged = 0  # and through which damaged and unknown are counted
        self._read_up_to = (0, 0, 0)  # last number read, first number of its segment, offset of the next line in it
        self.identity, self._segments = _found(folder)
        self._next = self._segments[-1].end() if self._segments else 1
        self._unsynced = True

    @property
    def waiting(self) -> int:
        """How many batches are not replayed yet, damaged ones that ``read`` has not passed included."""
        return self._count(self._segments[0].first, self._next - 1) if self._segments else 0

    @property
    def bytes(self) -> int:
        """Size of all segments on disk."""
        return sum(segment.size for segment in self._segments)

    def append(self, batch: Batch) -> None:
        """Add a batch at the end; over ``max_bytes`` the oldest segment is deleted and its batches counted.

        Raises:
            OSError: the batch is not in the spool (disk full, read-only, gone), which is as it was before.
        """
        line = _line(self._next, to_json(batch))
        if len(line) > self._max_bytes:
            self._drop(1, "a batch is larger than its bound")
            return
        if not self._segments or not self._segments[-1].takes(len(line), self._segment_bytes):
            self._begin_segment()
        while self.bytes + len(line) > self._max_bytes:
            oldest = self._segments[0]
            self._delete_oldest()
            self._drop(self._count(oldest.first, self._segments[0].first - 1), "its bound is reached")
        newest = self._segments[-1]
        before = newest.size
        self._unsynced = True
        try:
            newest.write(line)
        finally:
            if newest.torn or newest.size > before:  # a line that could not be taken back has its number for good
                self._next += 1

    def read(self, after: int, limit: int) -> list[Record]:
        """The next batches beyond number ``after``; at most ``limit`` and never more than one segment's worth.

        What is damaged is left out. An empty list means that nothing readable is left; if all up to ``after`` was
        discarded, the damaged batches at the very end are given up then, so that ``waiting`` is 0.
        """
        # A number handed out must outlive a power cut: given to another batch, that one would count as stored.
        self._sync()
        for segment, last in zip(self._segments, self._lasts(), strict=False):
            if last <= after:
                continue
            records: list[Record] = []
            expected = max(after + 1, segment.first)
            for sequence, offset, content in segment.lines(self._offset(segment, after)):
                if sequence < expected:
                    continue
                self._judge_missing(expected, sequence - 1)
                batch, unknown = from_json(content)
                self._judge_unknown(sequence, unknown)
                records.append(Record(sequence, batch))
                self._read_up_to = (sequence, segment.first, offset)
                expected = sequence + 1
                if len(records) == limit:
                    return records
            self._judge_missing(expected, last)
            if records:
                return records
        if after <= self._replayed:
            self.discard_through(self._next - 1)
        return []

    def discard_through(self, sequence: int) -> None:
        """Delete every segment whose batches all have numbers up to ``sequence``: they are in the database."""
        self._replayed = max(self._replayed, sequence)
        if not self._segments:
            return
        # Beyond our end only if the folder lost what it had: those numbers are taken all the same.
        self._next = max(self._next, self._replayed + 1)
        if self._next == self._replayed + 1 and self._segments[-1].first < self._next:
            self._begin_segment()
        while len(self._segments) > 1 and self._segments[1].first - 1 <= self._replayed:
            self._delete_oldest()

    def _count(self, first: int, last: int) -> int:
        return max(0, last - max(first - 1, self._replayed))

    def _lasts(self) -> list[int]:
        """The last number of each segment; without any, one that belongs to none."""
        return [*(segment.first - 1 for segment in self._segments[1:]), self._next - 1]

    def _begin_segment(self) -> None:
        self._sync()
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        path = self._folder / f"{self._next:0{_DIGITS}d}-{self.identity}.jsonl"
        path.touch(mode=0o600)
        _sync(self._folder)
        self._segments.append(_Segment(path, self._next))

    def _delete_oldest(self) -> None:
        self._segments[0].path.unlink(missing_ok=True)
        del self._segments[0]

    def _sync(self) -> None:
        if self._unsynced and self._segments:
            with suppress(FileNotFoundError):  # deleted by hand: what was in it is found damaged
                _sync(self._segments[-1].path)
        self._unsynced = False

    def _drop(self, batches: int, why: str) -> None:
        if not self.dropped and batches:
            log.error("spool %s drops batches: %s", self._folder, why)
        self.dropped += batches

    def _offset(self, segment: _Segment, after: int) -> int:
        """Where to look for the number beyond ``after``: where the last read ended, or at the start."""
        sequence, first, offset = self._read_up_to
        return offset if (sequence, first) == (after, segment.first) else 0

    def _judge_missing(self, first: int, last: int) -> None:
        lost = last - max(first - 1, self._judged)
        if lost > 0:
            if not self.damaged:
                log.error("spool %s is damaged: %d batches after number %d are lost", self._folder, lost, first - 1)
            self.damaged += lost
        self._judged = max(self._judged, last)

    def _judge_unknown(self, sequence: int, unknown: list[str]) -> None:
        if sequence <= self._judged:
            return
        self._judged = sequence
        self.unknown += len(unknown)
        for name in dict.fromkeys(unknown):
            if name not in self._unknown_names:
                log.warning("spool %s: %s was written by another release and is left out", self._folder, name)
                self._unknown_names.add(name)


def _found(folder: Path) -> tuple[str, list[_Segment]]:
    """Identity and segments that are there, or a new identity; of several, that of the highest number counts."""
    paths = sorted(folder.iterdir()) if folder.exists() else []
    named = [(path, match) for path in paths if (match := _NAME.fullmatch(path.name))]
    identity = named[-1][1]["identity"] if named else secrets.token_hex(8)
    return identity, [
        _Segment(path, int(match["first"]), path.stat().st_size)
        for path, match in named
        if match["identity"] == identity
    ]


def _line(sequence: int, content: bytes) -> bytes:
    number = b"%d," % sequence
    return b"[%b%d,%b]\n" % (number, zlib.crc32(content, zlib.crc32(number)), content)


def _sound(line: bytes) -> tuple[int, bytes] | None:
    """Number and content of a line as it was written, else ``None``."""
    number, _, rest = line[1:-2].partition(b",")
    _, _, content = rest.partition(b",")
    if not number.isdigit() or len(number) > _DIGITS or line != _line(int(number), content):
        return None
    return int(number), content


def _sync(path: Path) -> None:
    file = os.open(path, os.O_RDONLY)
    try:
        os.fsync(file)
    finally:
        os.close(file)
