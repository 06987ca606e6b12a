"""Tables into Parquet or CSV files, a part at a time.

Unknown is null in Parquet and an empty cell in CSV. A Parquet file says what each column is, in its own fields and,
for readers that know nothing of those, as JSON under ``vatio.columns``. In CSV times are ISO 8601 with Z, lists are
JSON, and a text that a spreadsheet would take for a formula has a quote before it.
"""

from __future__ import annotations

import json
import math
import os
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Literal, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet

from core.errors import ConfigError

ROWS_AT_ONCE = 50_000  # of one row group
LISTS_AT_ONCE = 10_000  # where a cell may hold a list
FORMATS = ("parquet", "csv")
_FORMULA = r"^[=+\-@\t\r]"

_TYPES: dict[str, Any] = {
    "text": pa.string(),
    "time": pa.timestamp("ms", "UTC"),
    "integer": pa.int64(),
    "real": pa.float64(),
    "reals": pa.list_(pa.float64()),
    "flag": pa.bool_(),
}


@dataclass(frozen=True, slots=True)
class Column:
    """What a column holds. ``unit`` is a symbol, "1" of a ratio, empty of a count or a text."""

    name: str
    type: Literal["text", "time", "integer", "real", "reals", "flag"]
    help: str
    unit: str = ""


Values = Sequence[Any] | str | bool | None
"""One value per row (a NumPy array or a list), or one for all of them."""


class Sink(Protocol):
    """Takes parts of a table."""

    def write(self, rows: int, values: Mapping[str, Values]) -> None:
        """Add rows. Times are Unix ms; NaN and ``None`` are unknown."""


@contextmanager
def sink(
    output: str, file_format: str, columns: Sequence[Column], facts: Mapping[str, str], taken: Sequence[Path]
) -> Iterator[Sink]:
    """A file that gets its name when it is complete, or standard output.

    Args:
        output: a file name; ``-`` is standard output.
        file_format: one of ``FORMATS``.
        columns: of the table.
        facts: what is true of the whole file; Parquet keeps it.
        taken: files that must not be written over.

    Raises:
        ConfigError: the output cannot be that.
    """
    make = _Parquet if file_format == "parquet" else _Csv
    with _opened(output, file_format, taken) as file:
        writer = make(file, columns, facts)
        yield writer
        writer.close()


@contextmanager
def _opened(output: str, file_format: str, taken: Sequence[Path]) -> Iterator[Any]:
    if output == "-":
        if file_format == "parquet" and sys.stdout.isatty():
            raise ConfigError("Parquet is nothing for a terminal: name a file with --output, or choose --format csv")
        yield _Forward(sys.stdout.buffer)
        sys.stdout.buffer.flush()
        return
    target = Path(output).resolve()  # what a link points to is replaced, not the link
    if target.exists() and not (target.is_file() or target.is_dir()):  # a device or a pipe, which stays what it is
        with target.open("wb") as device:
            yield _Forward(device)
        return
    if not target.parent.is_dir():
        raise ConfigError(f"no folder {target.parent}: create it, or name another file with --output")
    if target.is_dir():
        raise ConfigError(f"{target} is a folder: name a file in it with --output")
    if target in {path.resolve() for path in taken}:
        raise ConfigError(f"{target} belongs to the store itself: name another file with --output")
    descriptor, name = tempfile.mkstemp(prefix=f".{target.name}.", suffix=".partial", dir=target.parent)
    try:
        with os.fdopen(descriptor, "wb") as file:
            yield file
        Path(name).chmod(0o666 & ~_umask())
        Path(name).replace(target)
    finally:
        Path(name).unlink(missing_ok=True)


def _umask() -> int:
    mask = os.umask(0o077)
    os.umask(mask)
    return mask


class _Forward:
    """A pipe as a file that knows where it is, which the Parquet writer asks."""

    closed = False
    mode = "wb"

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._at = 0

    def write(self, data: bytes) -> int:
        self._file.write(data)
        self._at += len(data)
        return len(data)

    def tell(self) -> int:
        return self._at

    def flush(self) -> None:
        self._file.flush()

    def close(self) -> None:
        """It is not ours to close."""

    def writable(self) -> bool:
        return True

    def readable(self) -> bool:
        return False

    def seekable(self) -> bool:
        return False


class _Buffered:
    """Gathers parts until they are worth a row group."""

    def __init__(self, columns: Sequence[Column]) -> None:
        self._columns = columns
        self._at_once = LISTS_AT_ONCE if any(column.type == "reals" for column in columns) else ROWS_AT_ONCE
        self._parts: list[Any] = []
        self._rows = 0

    def write(self, rows: int, values: Mapping[str, Values]) -> None:
        if rows:
            arrays = [_array(column, values[column.name], rows) for column in self._columns]
            self._parts.append(pa.table(arrays, names=[column.name for column in self._columns]))
            self._rows += rows
        if self._rows >= self._at_once:
            self._flush()

    def _flush(self) -> None:
        if self._parts:
            self._write(pa.concat_tables(self._parts).combine_chunks())
        self._parts, self._rows = [], 0

    def _write(self, table: Any) -> None:  # noqa: ANN401  pyarrow has no types
        raise NotImplementedError


class _Parquet(_Buffered):
    def __init__(self, file: Any, columns: Sequence[Column], facts: Mapping[str, str]) -> None:  # noqa: ANN401
        super().__init__(columns)
        described = {c.name: {"unit": c.unit, "help": c.help} for c in columns}
        fields = [pa.field(c.name, _TYPES[c.type], metadata=described[c.name]) for c in columns]
        metadata = {f"vatio.{name}": text for name, text in facts.items()}
        metadata["vatio.columns"] = json.dumps(described, ensure_ascii=False)
        self._schema = pa.schema(fields, metadata=metadata)
        self._writer = pyarrow.parquet.ParquetWriter(file, self._schema, compression="zstd")

    def _write(self, table: Any) -> None:  # noqa: ANN401
        self._writer.write_table(table.cast(self._schema))

    def close(self) -> None:
        self._flush()
        self._writer.close()


class _Csv(_Buffered):
    def __init__(self, file: Any, columns: Sequence[Column], _facts: Mapping[str, str]) -> None:  # noqa: ANN401
        super().__init__(columns)
        spelt = pa.schema([(c.name, pa.string() if c.type in _SPELT else _TYPES[c.type]) for c in columns])
        options = pyarrow.csv.WriteOptions(quoting_style="needed")
        self._writer = pyarrow.csv.CSVWriter(file, spelt, write_options=options)

    def _write(self, table: Any) -> None:  # noqa: ANN401
        arrays = [_SPELT.get(column.type, _as_it_is)(table[column.name]) for column in self._columns]
        self._writer.write_table(pa.table(arrays, names=table.column_names))

    def close(self) -> None:
        self._flush()
        self._writer.close()


def _as_it_is(column: Any) -> Any:  # noqa: ANN401
    return column


def _spelt_times(column: Any) -> Any:  # noqa: ANN401
    times = column.to_numpy().astype("M8[ms]")
    return pa.array(np.datetime_as_string(times, timezone="UTC"), mask=np.isnat(times), type=pa.string())


def _harmless(column: Any) -> Any:  # noqa: ANN401
    quoted = pc.binary_join_element_wise("'", column, "")
    return pc.if_else(pc.match_substring_regex(column, _FORMULA), quoted, column)


def _spelt_lists(column: Any) -> Any:  # noqa: ANN401
    return pa.array([None if row is None else json.dumps([_finite(x) for x in row]) for row in column.to_pylist()])


def _finite(number: float) -> float | str:
    return number if math.isfinite(number) else str(number)


_SPELT: dict[str, Callable[[Any], Any]] = {"time": _spelt_times, "text": _harmless, "reals": _spelt_lists}


def _array(column: Column, values: Values, rows: int) -> Any:  # noqa: ANN401
    kind = _TYPES[column.type]
    if values is None or isinstance(values, str | bool):
        return pa.repeat(pa.scalar(values, type=kind), rows)
    if column.type == "time":
        return pa.array(values, type=pa.int64()).cast(kind)
    if column.type in ("real", "integer"):
        numbers = np.asarray(values, dtype="float64")
        unknown = np.isnan(numbers)
        if column.type == "integer":
            numbers = np.rint(np.where(unknown, 0.0, numbers)).astype("int64")
        return pa.array(numbers, mask=unknown, type=kind)
    return pa.array(values, type=kind)
