"""CPU sockets as one source: what the kernel shows, completed by what E-SMI knows of EPYC sockets.

Both speak of the same sockets under the same keys, and two rows per socket and tick would make one
socket look like two. The kernel's value wins where both have one, so that an energy counter never
changes its zero point in the middle of a series.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import fields, replace

from collectors.base import Availability, Source
from core.errors import CollectorError
from core.readings import CpuSample, Entity, Outcome, Reading, TargetReport

RETRY_SECONDS = 600.0
ESMI = "E-SMI"


class SocketsSource:
    """The ``cpu`` source with a second opinion.

    Args:
        kernel: reads ``/proc``, RAPL and hwmon.
        esmi: reads E-SMI, in a process of its own; may be absent or break without harm to the other.
        clock: seconds that never step back.
    """

    name = "cpu"

    def __init__(self, kernel: Source, esmi: Source, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._kernel = kernel
        self._esmi = esmi
        self._clock = clock
        self._esmi_found = Availability(False)
        self._next_try = 0.0

    def discover(self) -> Availability:
        """The kernel's answer; what it says about missing energy no longer holds where E-SMI answers."""
        found = self._kernel.discover()
        self._try_esmi()
        if found.ok and self._esmi_found.ok:
            return replace(found, reason=self._esmi_found.reason, remedy=self._esmi_found.remedy)
        return found

    def collect(self) -> Iterator[Reading]:
        """One sample per socket, both views in one."""
        readings = list(self._kernel.collect())
        known, labels = self._second_opinion(readings)
        for reading in readings:
            if isinstance(reading, CpuSample) and reading.key in known:
                yield _completed(reading, known[reading.key])
            elif isinstance(reading, Entity) and reading.key in labels:
                yield replace(reading, labels={**labels[reading.key], **reading.labels})
            else:
                yield reading

    def close(self) -> None:
        """Close both."""
        self._kernel.close()
        self._esmi.close()

    def _try_esmi(self) -> None:
        self._esmi_found = self._esmi.discover()
        self._next_try = self._clock() + RETRY_SECONDS

    def _second_opinion(self, readings: list[Reading]) -> tuple[dict[str, CpuSample], dict[str, dict[str, str]]]:
        """What E-SMI says of each socket; its failure becomes a report among the readings."""
        if not self._esmi_found.ok:
            if self._clock() >= self._next_try:
                self._try_esmi()
            if not self._esmi_found.ok:
                return {}, {}
        began = time.perf_counter()
        try:
            said = tuple(self._esmi.collect())
            outcome, error = Outcome.OK, ""
        except CollectorError as exc:
            said, outcome, error = (), Outcome.FAILED, str(exc)
            self._esmi_found = Availability(False)
        elapsed = time.perf_counter() - began
        readings.append(TargetReport(target=ESMI, outcome=outcome, duration_seconds=elapsed, error=error))
        samples = {reading.key: reading for reading in said if isinstance(reading, CpuSample)}
        return samples, {reading.key: dict(reading.labels) for reading in said if isinstance(reading, Entity)}


def _completed(sample: CpuSample, other: CpuSample) -> CpuSample:
    missing = {f.name: getattr(other, f.name) for f in fields(sample) if getattr(sample, f.name) is None}
    return replace(sample, **missing)
