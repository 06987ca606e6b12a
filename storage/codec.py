"""Arrays of numbers to checked, compressed bytes and back, bit for bit.

A payload is what pcodec made of the array, which says itself where it ends, and an XXH3 checksum of that. Values are
float64 with NaN for unknown; times are milliseconds since the start of their span, which a steady grid turns
into a few bytes.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from pcodec import ChunkConfig, standalone
from xxhash import xxh3_64_digest

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]

LEVEL = 8
_CHECK_BYTES = 8
_BROKEN = (RuntimeError, ValueError, TypeError, OverflowError)  # what pcodec raises on bytes it cannot read


class Corrupt(Exception):
    """A payload is not what was written."""


def pack(values: Floats) -> bytes:
    """Compress float64 values; NaN, -0.0 and infinities keep their bits."""
    return _checked(np.ascontiguousarray(values, dtype="float64"))


def unpack_into(payload: bytes, out: NDArray[Any]) -> None:
    """Decompress into ``out``, which has the type and the length that were packed.

    Raises:
        Corrupt: the bytes or their number were changed; ``out`` holds nothing of use.
    """
    _check(payload)
    try:
        progress = standalone.simple_decompress_into(payload, out)
    except _BROKEN as exc:
        raise Corrupt(str(exc)) from exc
    if progress.n_processed != len(out) or not progress.finished:
        raise Corrupt("number of values does not match")


def unpack_first(payload: bytes, count: int) -> Floats:
    """The first so many float64 values of a payload that has more; those after them are not decompressed.

    Raises:
        Corrupt: as ``unpack_into``.
    """
    _check(payload)
    values = np.empty(count)
    try:
        progress = standalone.simple_decompress_into(payload, values)
    except _BROKEN as exc:
        raise Corrupt(str(exc)) from exc
    if progress.n_processed != count:
        raise Corrupt("number of values does not match")
    return values


def unpack(payload: bytes) -> Floats:
    """Decompress a payload whose length is not known beforehand.

    Raises:
        Corrupt: as ``unpack_into``.
    """
    _check(payload)
    try:
        values: Floats = standalone.simple_decompress(payload)
    except _BROKEN as exc:
        raise Corrupt(str(exc)) from exc
    return values


def pack_times(at_ms: Integers, span_ms: int) -> bytes:
    """Compress ascending times of one span (Unix ms)."""
    return _checked((at_ms - span_ms).astype("uint32"))


def unpack_times(payload: bytes, span_ms: int, instants: int) -> Integers:
    """The times (Unix ms) that were packed.

    Raises:
        Corrupt: as ``unpack_into``.
    """
    offsets = np.empty(instants, dtype="uint32")
    unpack_into(payload, offsets)
    return offsets.astype("int64") + span_ms


def _checked(values: NDArray[Any]) -> bytes:
    content: bytes = standalone.simple_compress(values, ChunkConfig(compression_level=LEVEL))
    return content + xxh3_64_digest(content)


def _check(payload: bytes) -> None:
    if xxh3_64_digest(memoryview(payload)[:-_CHECK_BYTES]) != payload[-_CHECK_BYTES:]:
        raise Corrupt("checksum does not match")
