"""Prometheus and VictoriaMetrics as stores of the generated fleet, each with its own defaults, on loopback.

Both take samples by remote write: the only import of a running Prometheus, and faster into VictoriaMetrics than its
JSON lines. Only what would hinder the comparison is set: a retention that keeps the week, and no cache of query
results, because what is timed is reading. Windows follow each peer's own rule: Prometheus 2 counts the sample at a
window's beginning, VictoriaMetrics does not.
"""

from __future__ import annotations

import http.client
import json
import shutil
import socket
import subprocess
import time
import urllib.parse
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

import numpy as np
import psutil
from numpy.typing import NDArray

from benchmarks.fleet import BEGIN_MS, METRICS, Fleet
from benchmarks.processes import cpu_seconds, running

Function = Literal["mean", "max", "increase"]

READS = 25  # the best of them counts; one before them is checked and not timed
CONNECTIONS = 2
ACCELERATORS_AT_ONCE = 8
SLICE_TICKS = 120
START_SECONDS, QUIET_SECONDS, DEADLINE_SECONDS = 30, 10, 600

_PREFIX = "accelerator_"
_PROMQL: dict[Function, str] = {"mean": "avg_over_time", "max": "max_over_time", "increase": "increase"}
_SAMPLE = np.dtype([("head", "S3"), ("value", "<f8"), ("tag", "u1"), ("time", "u1", (6,))])


@dataclass(frozen=True, slots=True)
class Load:
    """How long a store took to accept a whole fleet, without the time to generate it, and by which way."""

    seconds: float
    how: str


class Store(Protocol):
    """What is compared. All but ``missing`` hold inside ``opened``, after ``load``."""

    name: str

    def missing(self) -> str:
        """What to install for this store; nothing where it can run."""

    def opened(self, scratch: Path) -> AbstractContextManager[None]:
        """Runs the store with its data below ``scratch``; leaves no process behind."""

    def load(self, fleet: Fleet) -> Load:
        """Takes every sample of the fleet."""

    def bytes_on_disk(self) -> int:
        """Length of all files that hold the fleet, once everything is merged."""

    def read(
        self,
        metrics: Sequence[str],
        function: Function,
        step_seconds: int,
        accelerators: Sequence[int] | None = None,
    ) -> float:
        """Best seconds for a complete answer over all time, a point per step; of all accelerators by default."""


class Server(ABC):
    """A peer that speaks Prometheus' HTTP interfaces; its methods are those of ``Store``."""

    title: str
    program: str
    how: str
    flush_path = ""  # makes what was accepted visible to queries, where it is not at once
    process: psutil.Process
    folder: Path
    port: int
    fleet: Fleet

    def __init__(self) -> None:
        self.name = f"{self.title} {_debian_version(self.program)}".strip()

    def missing(self) -> str:
        return "" if shutil.which(self.program) else f"not installed (Debian: apt install {self.program})"

    @contextmanager
    def opened(self, scratch: Path) -> Iterator[None]:
        self.folder, self.port = scratch / self.program, _free_port()
        self.folder.mkdir()
        with running(self._command(), cwd=self.folder) as self.process:
            self._wait_until_ready()
            yield

    def load(self, fleet: Fleet) -> Load:
        self.fleet = fleet
        seconds = 0.0
        with ThreadPoolExecutor(CONNECTIONS) as pool:
            for batch in self._batches(fleet):
                began = time.perf_counter()
                list(pool.map(self._write, batch))
                seconds += time.perf_counter() - began
        if self.flush_path:
            began = time.perf_counter()
            self._call(self.flush_path)
            seconds += time.perf_counter() - began
        self._expect_all_samples()
        return Load(seconds, self.how)

    @abstractmethod
    def bytes_on_disk(self) -> int: ...

    def read(
        self,
        metrics: Sequence[str],
        function: Function,
        step_seconds: int,
        accelerators: Sequence[int] | None = None,
    ) -> float:
        begin, end = BEGIN_MS // 1000 + step_seconds, self.fleet.end_ms // 1000
        keys = [self.fleet.key(number) for number in accelerators or ()]
        given = {"start": begin, "end": end, "step": step_seconds, "nocache": 1}
        paths = [
            _path("query_range", query=f"{_PROMQL[function]}({selector}[{step_seconds}s])", **given)
            for selector in self._selectors(metrics, f'accelerator=~"{"|".join(keys)}"' if keys else "")
        ]
        series, points = len(metrics) * (len(keys) or self.fleet.accelerators), (end - begin) // step_seconds + 1
        shares = [paths[first::CONNECTIONS] for first in range(min(CONNECTIONS, len(paths)))]
        best = float("inf")
        with ExitStack() as stack:
            pool = stack.enter_context(ThreadPoolExecutor(len(shares)))
            connections = [stack.enter_context(closing(self._connection())) for _ in shares]
            expected = list(pool.map(_ask_all, connections, shares))
            self._check([answer for share in expected for answer in share], series, points)
            for _ in range(READS):
                began = time.perf_counter()
                answers = list(pool.map(_ask_all, connections, shares))
                best = min(best, time.perf_counter() - began)
                if [[*map(len, share)] for share in answers] != [[*map(len, share)] for share in expected]:
                    raise RuntimeError(f"{self.name} answered the same query differently")
        return best

    @abstractmethod
    def _command(self) -> list[str]:
        """Program and arguments, for data in ``folder`` and requests on ``port``."""

    @abstractmethod
    def _batches(self, fleet: Fleet) -> Iterator[list[bytes]]:
        """Remote write requests; those of one batch may arrive in any order."""

    @abstractmethod
    def _selectors(self, metrics: Sequence[str], matcher: str) -> list[str]:
        """Selectors that together give these metrics, one for each query that it takes."""

    def _write(self, body: bytes) -> None:
        with closing(self._connection()) as connection:
            _ask(connection, "/api/v1/write", body)

    def _call(self, path: str) -> bytes:
        with closing(self._connection()) as connection:
            return _ask(connection, path)

    def _connection(self) -> http.client.HTTPConnection:
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=DEADLINE_SECONDS)

    def _check(self, answers: Sequence[bytes], series: int, points: int) -> None:
        """Refuse answers that lack a series, a point or a number."""
        told = [json.loads(answer) for answer in answers]
        if any(one["status"] != "success" or one.get("isPartial") for one in told):
            raise RuntimeError(f"{self.name} answered only in part")
        found = [result["values"] for one in told for result in one["data"]["result"]]
        if [len(values) for values in found] != [points] * series:
            raise RuntimeError(f"{self.name} did not answer {series} series of {points} points")
        if not np.isfinite(np.array([value for values in found for _, value in values], dtype=np.float64)).all():
            raise RuntimeError(f"{self.name} answered with what is no number")

    def _expect_all_samples(self) -> None:
        """Refuse to go on unless every sample is held."""
        last = self.fleet.end_ms // 1000 - self.fleet.step_seconds
        held = 0
        for selector in self._selectors(METRICS, ""):
            query = f"sum(count_over_time({selector}[{self.fleet.days}d]))"
            answer = json.loads(self._call(_path("query", query=query, time=last, nocache=1)))
            held += int(answer["data"]["result"][0]["value"][1])
        if held != self.fleet.samples:
            raise RuntimeError(f"{self.name} holds {held} of {self.fleet.samples} samples")

    def _wait_until_ready(self) -> None:
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline:
            with suppress(OSError, RuntimeError):
                self._call("/-/ready")
                return
            time.sleep(0.1)
        raise RuntimeError(f"{self.name} was not ready after {START_SECONDS} s")

    def _wait_until_quiet(self) -> None:
        """Until files stay as they are and next to no CPU is used."""
        deadline = time.monotonic() + DEADLINE_SECONDS
        while time.monotonic() < deadline:
            files, used = _lengths(self.folder), cpu_seconds(self.process)
            time.sleep(QUIET_SECONDS)
            if files == _lengths(self.folder) and cpu_seconds(self.process) - used < 0.02 * QUIET_SECONDS:
                return
        raise RuntimeError(f"{self.name} was still at work after {DEADLINE_SECONDS} s")


class Prometheus(Server):
    """Samples come in order of time over all series, as scrapes do, so that blocks form and merge as they would have.

    On disk a snapshot of it counts: every block, the head's last hours as one too, and no log, which repeats the head.
    """

    title = "Prometheus"
    program = "prometheus"
    how = "remote write, in order of time"

    def bytes_on_disk(self) -> int:
        self._wait_until_quiet()
        with closing(self._connection()) as connection:
            answer = _ask(connection, "/api/v1/admin/tsdb/snapshot", b"")
        return sum(_lengths(self.folder / "data/snapshots" / json.loads(answer)["data"]["name"]).values())

    def _command(self) -> list[str]:
        (self.folder / "prometheus.yml").touch()
        return [
            self.program,
            f"--config.file={self.folder}/prometheus.yml",
            f"--storage.tsdb.path={self.folder}/data",
            f"--web.listen-address=127.0.0.1:{self.port}",
            "--web.enable-remote-write-receiver",
            "--web.enable-admin-api",
        ]

    def _batches(self, fleet: Fleet) -> Iterator[list[bytes]]:
        times = fleet.times_ms()
        labels = [_labels(fleet, number) for number in range(fleet.accelerators)]
        values = [np.array(list(fleet.series(number).values())) for number in range(fleet.accelerators)]
        half = -(-fleet.accelerators // CONNECTIONS)
        for begin in range(0, fleet.ticks, SLICE_TICKS):
            ticks = slice(begin, begin + SLICE_TICKS)
            series = [
                b"".join(map(_series, of_one, _samples(times[ticks], rows[:, ticks])))
                for of_one, rows in zip(labels, values, strict=True)
            ]
            yield [_snappy(b"".join(series[first : first + half])) for first in range(0, fleet.accelerators, half)]

    def _selectors(self, metrics: Sequence[str], matcher: str) -> list[str]:
        """One query per metric: all functions drop the name, after which a regex over names is an error."""
        return [f"{_PREFIX}{metric}{{{matcher}}}" for metric in metrics]


class VictoriaMetrics(Server):
    """Each accelerator's week comes as one request. On disk the data folder counts, after a forced merge."""

    title = "VictoriaMetrics"
    program = "victoria-metrics"
    how = "remote write, device by device"
    flush_path = "/internal/force_flush"

    def bytes_on_disk(self) -> int:
        self._wait_until_quiet()  # a part that is being merged would be left out
        self._call("/internal/force_merge")
        self._wait_until_quiet()
        return sum(_lengths(self.folder / "data").values())

    def _command(self) -> list[str]:
        return [
            self.program,
            f"-storageDataPath={self.folder}/data",
            f"-httpListenAddr=127.0.0.1:{self.port}",
            "-retentionPeriod=100y",
            "-search.disableCache",
        ]

    def _batches(self, fleet: Fleet) -> Iterator[list[bytes]]:
        times = fleet.times_ms()
        for first in range(0, fleet.accelerators, ACCELERATORS_AT_ONCE):
            batch = []
            for number in range(first, min(first + ACCELERATORS_AT_ONCE, fleet.accelerators)):
                samples = _samples(times, np.array(list(fleet.series(number).values())))
                batch.append(_snappy(b"".join(map(_series, _labels(fleet, number), samples))))
            yield batch

    def _selectors(self, metrics: Sequence[str], matcher: str) -> list[str]:
        """One query by a regex over names, which mean and max keep."""
        names = "|".join(_PREFIX + metric for metric in metrics)
        return [f'{{__name__=~"{names}",{matcher}}}' if len(metrics) > 1 else f"{names}{{{matcher}}}"]


def peers() -> list[Store]:
    """Every peer, installed or not."""
    return [Prometheus(), VictoriaMetrics()]


def _path(resource: str, **given: str | int) -> str:
    return f"/api/v1/{resource}?{urllib.parse.urlencode(given)}"


def _ask(connection: http.client.HTTPConnection, path: str, body: bytes | None = None) -> bytes:
    """The whole body of the answer, as it came; GET without a body, else POST."""
    connection.request("GET" if body is None else "POST", path, body)
    with connection.getresponse() as answer:
        content = answer.read()
    if answer.status >= 300:
        raise RuntimeError(f"{path.split('?')[0]} answered {answer.status}: {content[:200].decode(errors='replace')}")
    return content


def _ask_all(connection: http.client.HTTPConnection, paths: Sequence[str]) -> list[bytes]:
    return [_ask(connection, path) for path in paths]


def _debian_version(package: str) -> str:
    """Upstream version of an installed package; nothing where Debian did not install it."""
    command = ["dpkg-query", "--show", "--showformat=${Version}", package]
    with suppress(OSError):
        return subprocess.run(command, capture_output=True, text=True, check=False).stdout.partition("+")[0]
    return ""


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def _lengths(folder: Path) -> dict[Path, int]:
    """Bytes of every file below a folder, also while files come and go."""
    lengths = {}
    for path in folder.rglob("*"):
        with suppress(FileNotFoundError):
            if path.is_file():
                lengths[path] = path.stat().st_size
    return lengths


def _varint(number: int) -> bytes:
    """Protocol Buffers' variable-length integer."""
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


def _field(number: int, content: bytes) -> bytes:
    """A length-delimited field of a Protocol Buffers message."""
    return bytes([number << 3 | 2]) + _varint(len(content)) + content


def _labels(fleet: Fleet, accelerator: int) -> list[bytes]:
    """Encoded labels of each metric of one accelerator."""
    return [
        b"".join(
            _field(1, _field(1, name.encode()) + _field(2, value.encode()))
            for name, value in (("__name__", _PREFIX + metric), ("accelerator", fleet.key(accelerator)))
        )
        for metric in METRICS
    ]


def _samples(times_ms: NDArray[np.int64], values: NDArray[np.float64]) -> Iterator[bytes]:
    """Encoded samples of each row of values. A time of this century takes six bytes."""
    encoded = np.empty(values.shape, _SAMPLE)
    encoded["head"] = bytes([2 << 3 | 2, 16, 1 << 3 | 1])
    encoded["value"] = values
    encoded["tag"] = 2 << 3
    encoded["time"] = times_ms[:, None] >> np.arange(0, 42, 7) & 0x7F | np.where(np.arange(6) < 5, 0x80, 0)
    return (row.tobytes() for row in encoded)


def _series(labels: bytes, samples: bytes) -> bytes:
    return _field(1, labels + samples)


def _snappy(body: bytes) -> bytes:
    """Remote write wants Snappy; one literal is valid and costs the server next to nothing to unpack."""
    return _varint(len(body)) + b"\xfc" + (len(body) - 1).to_bytes(4, "little") + body
