"""The text of a metrics page: which lines matter, and the numbers in them, per series.

A page has hundreds of lines of which a third matter, and their text before the value hardly ever changes.
So lines are picked by name first, and each series' text is parsed once (by prometheus_client's parser)
and looked up from then on: a 53 kB vLLM page costs 0.4 ms a tick instead of 8.
"""

from __future__ import annotations

import math
import re
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import NamedTuple

from prometheus_client.parser import text_string_to_metric_families

from core.errors import CollectorError

MAX_LINES = 200_000
MAX_KEPT_BYTES = 2 << 20  # a vLLM server with 64 engines keeps about 1 MiB; parsing 2 MiB takes about a second
MAX_LINE = 8192

_EXCERPT = 512
_NOT_METRICS = "not a metrics page"
_TOO_LONG = f"a line is longer than {MAX_LINE} characters"
_NO_TEXT = "not UTF-8 text"
_BROKEN = "a line breaks the format"


@dataclass(frozen=True, slots=True)
class Series:
    """What a line says before its value. ``bound`` is a bucket's ``le``, which is not among the labels."""

    name: str
    labels: Mapping[str, str]
    bound: float | None
    identity: tuple[tuple[str, str], ...]  # the labels, hashable: equal for all buckets of a histogram


class Point(NamedTuple):
    """One line of a page, with the time it was measured where the page tells it."""

    series: Series
    value: float
    at_ms: int | None = None


@dataclass(frozen=True, slots=True)
class Page:
    """The lines that matter, by name of series; help texts and types as the page declares them.

    ``left_out`` is why lines were not read, and how many; the others are good.
    """

    points: Mapping[str, list[Point]] = field(default_factory=dict)
    helps: Mapping[str, str] = field(default_factory=dict)
    types: Mapping[str, str] = field(default_factory=dict)
    left_out: Mapping[str, int] = field(default_factory=dict)

    def single(self, name: str) -> float | None:
        """The value of a series that a page has once."""
        points = self.points.get(name)
        return points[0].value if points else None


class Selector:
    """Picks the lines that carry one of the given series, and their help texts.

    Args:
        names: of the series.
        max_kept_bytes: of what is picked.
        typed: beginnings of names whose ``# TYPE`` lines are picked as well, also of other series; every name begins
            with an empty one.
    """

    def __init__(
        self, names: Iterable[str], max_kept_bytes: int = MAX_KEPT_BYTES, *, typed: Iterable[str] = ()
    ) -> None:
        self._max_kept_bytes = max_kept_bytes
        alternatives = "|".join(sorted(map(re.escape, names), key=len, reverse=True))
        # of a line that is too long as much is picked as shows that it is
        lines = rf"(?:# HELP )?(?:{alternatives})(?:[ {{].{{0,{MAX_LINE}}}|$)"
        if beginnings := tuple(map(re.escape, typed)):
            lines += rf"|# TYPE (?:{'|'.join(beginnings)}).{{0,{MAX_LINE}}}"
        self._lines = re.compile(f"^(?:{lines})".encode(), re.MULTILINE)

    def __call__(self, body: bytes) -> bytes:
        """The lines of interest; the beginning of the body when it has none.

        Raises:
            CollectorError: the page has more lines, or more of interest, than any real one.
        """
        if body.count(b"\n") > MAX_LINES:
            raise CollectorError(f"more than {MAX_LINES} lines")
        kept = b"\n".join(self._lines.findall(body))
        if len(kept) > self._max_kept_bytes:
            raise CollectorError(f"more than {self._max_kept_bytes >> 20} MiB of series")
        return kept or body[:_EXCERPT]


class PageReader:
    """Reads the pages of one server and remembers their series.

    A line that cannot be read is left out and counted: label values are other people's texts, and one model's must
    not cost the others theirs. A value that is no number is NaN, so that what it is part of is unknown, not smaller.

    Args:
        keeps_label: whether a label is wanted. Series may be alike without the others; neither the other labels nor
            the lines they stood in are remembered. ``None``: all are.
    """

    def __init__(self, keeps_label: Callable[[str], bool] | None = None) -> None:
        self._keeps_label = keeps_label
        self._known: dict[str | bytes, Series] = {}
        self._timed: dict[str | bytes, Series] = {}  # those whose lines end with a time stamp

    def read(self, kept: bytes) -> Page:
        """Read what a ``Selector`` kept.

        Raises:
            CollectorError: no line of interest can be read.
        """
        left_out: Counter[str] = Counter()
        lines = _lines(kept, left_out)
        if len(self._known) + len(self._timed) > 2 * len(lines):  # labels that never come back must not pile up
            self._known.clear()
            self._timed.clear()
        points: dict[str, list[Point]] = {}
        comments: dict[str, dict[str, str]] = {"# HELP ": {}, "# TYPE ": {}}
        for line in lines:
            if (texts := comments.get(line[:7])) is not None:
                name, _, texts[name] = line[7:].partition(" ")
                continue
            try:
                point = self._point(line)
            except (ValueError, IndexError, OverflowError):
                left_out[_BROKEN] += 1
            else:
                points.setdefault(point.series.name, []).append(point)
        if left_out and not points:
            raise CollectorError(f"{_NOT_METRICS}: {next(iter(left_out))}")
        return Page(points, comments["# HELP "], comments["# TYPE "], left_out)

    def _point(self, line: str) -> Point:
        text, _, number = line.rpartition(" ")
        if series := self._known.get(key := self._key(text)):
            return Point(series, _number(number))
        before, _, value = text.rpartition(" ")
        if series := self._timed.get(key_before := self._key(before)):
            return Point(series, _number(value), round(float(number)))
        point = _parse(line, self._keeps_label)
        if point.at_ms is None:
            self._known[key] = point.series
        elif value:  # the last word but one, since the last is the time
            self._timed[key_before] = point.series
        return point

    def _key(self, text: str) -> str | bytes:
        return text if self._keeps_label is None else blake2b(text.encode(), digest_size=16).digest()


def _lines(kept: bytes, left_out: Counter[str]) -> list[str]:
    short = [line for line in kept.split(b"\n") if len(line) <= MAX_LINE]
    if too_long := kept.count(b"\n") + 1 - len(short):
        left_out[_TOO_LONG] = too_long
    try:
        return [line.strip() for line in b"\n".join(short).decode().split("\n")] if short else []
    except UnicodeDecodeError:
        texts = [line for line in short if _is_text(line)]
        left_out[_NO_TEXT] = len(short) - len(texts)
        return [line.decode().strip() for line in texts]


def _is_text(line: bytes) -> bool:
    try:
        line.decode()
    except UnicodeDecodeError:
        return False
    return True


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan


def _parse(line: str, keeps_label: Callable[[str], bool] | None) -> Point:
    """One line by the library's parser."""
    (family,) = text_string_to_metric_families(line)
    (sample,) = family.samples
    labels = dict(sample.labels)
    bound = labels.pop("le", None)
    if keeps_label is not None:
        labels = {name: text for name, text in labels.items() if keeps_label(name)}
    series = Series(
        sys.intern(sample.name), labels, None if bound is None else float(bound), tuple(sorted(labels.items()))
    )
    at_ms = None if sample.timestamp is None else round(float(sample.timestamp) * 1000)
    return Point(series, float(sample.value), at_ms)


def describe_other(body: bytes) -> str:
    """What a page without a line of interest seems to be; none of its words are quoted."""
    start = body.lstrip()
    if not start:
        return f"{_NOT_METRICS}: empty"
    if start.startswith(b"<"):
        return f"{_NOT_METRICS}: HTML"
    if start.startswith((b"{", b"[")):
        return f"{_NOT_METRICS}: JSON"
    if start.startswith((b"# HELP", b"# TYPE")):
        return "a metrics page, but not of an inference server that Vatio knows"
    if not start.isascii() or b"\0" in start:
        return f"{_NOT_METRICS}: binary data"
    return f"{_NOT_METRICS}: other text"
