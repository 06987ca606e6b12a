"""Steps between samples summed by hour: the arithmetic of an account, without a database."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from analytics.formulas import energy as formulas
from analytics.formulas.sampling import usual_intervals
from storage import schema
from storage.codec import Floats, Integers
from storage.schema import HOUR_MS

SOURCES = ("counter", "node", "integrated", "estimated")
"""Where energy came from, best first: a device's counter, power samples of the node, power samples of a device,
or in part a counter that was not read for longer than the hour."""


class Hours:
    """Sums by hour. A row begins to exist when something falls into its hour."""

    def __init__(self, from_ms: int, until_ms: int) -> None:
        self._from_ms = from_ms
        self._count = (until_ms - from_ms) // HOUR_MS
        self._unknown = np.full(self._count, np.nan)
        self._sums: dict[str, Floats] = {}
        self._energy: dict[str, dict[str, Floats]] = {}
        self._spread = np.zeros(self._count, "bool")  # a counter was not read for longer than the hour

    def _hour_of_end(self, end_ms: Integers) -> Integers:
        return (end_ms - 1 - self._from_ms) // HOUR_MS

    def _sum(self, hour: Integers, amounts: Floats) -> Floats:
        inside = (hour >= 0) & (hour < self._count)
        out = self._unknown.copy()
        touched = np.unique(hour[inside])
        out[touched] = np.bincount(hour[inside], amounts[inside], minlength=self._count)[touched]
        return out

    def _pieces(self, begin_ms: Integers, end_ms: Integers) -> tuple[Integers, Integers, Floats]:
        """Steps cut at the hours: the step of each piece, its hour, and its part of the step."""
        first = (begin_ms - self._from_ms) // HOUR_MS
        count = np.maximum(self._hour_of_end(end_ms) - first + 1, 1)
        step = np.repeat(np.arange(len(count)), count)
        hour = first[step] + np.arange(len(step)) - np.repeat(np.cumsum(count) - count, count)
        start = self._from_ms + hour * HOUR_MS
        inside = np.minimum(end_ms[step], start + HOUR_MS) - np.maximum(begin_ms[step], start)
        return step, hour, inside / np.maximum(end_ms - begin_ms, 1)[step]

    def cut(self, column: str, begin_ms: Integers, end_ms: Integers) -> None:
        """Add the time (s) of steps, each to the hours it lies in."""
        step, hour, part = self._pieces(begin_ms, end_ms)
        self._sums[column] = self._sum(hour, part * (end_ms - begin_ms)[step] / 1000)

    def add(self, column: str, begin_ms: Integers, end_ms: Integers, amounts: Floats) -> None:
        """Add amounts that were counted in steps."""
        self._sums[column], _ = self._counted(begin_ms, end_ms, amounts)

    def add_energy(self, source: str, portions: formulas.Portions, states: NDArray[np.str_] | None = None) -> None:
        """Add energy (J) and the time it covers (s), and the energy of each state where every portion has one."""
        begin_ms, end_ms = ((at * 1000).round().astype("int64") for at in (portions.begin, portions.end))
        joules = np.asarray(portions.joules, "float64")
        found: dict[str, Floats] = {}
        found["energy_joules"], spread = self._counted(begin_ms, end_ms, joules)
        found["energy_seconds"], _ = self._counted(
            begin_ms, end_ms, np.asarray(portions.end - portions.begin, "float64")
        )
        self._energy[source] = found
        self._spread |= spread
        if states is not None and len(joules):
            near = ~self._gaps(begin_ms, end_ms)
            for state in np.unique(states[near]):
                of = near & (states == state)
                found[f"{state}_joules"] = self._sum(self._hour_of_end(end_ms[of]), joules[of])

    def _counted(self, begin_ms: Integers, end_ms: Integers, amounts: Floats) -> tuple[Floats, NDArray[np.bool_]]:
        """Sums of the hours in which steps end, and which hours share a step that was a gap."""
        if not len(amounts):
            return self._unknown, np.zeros(self._count, "bool")
        gap = self._gaps(begin_ms, end_ms)
        step, hour, part = self._pieces(begin_ms[gap], end_ms[gap])
        hours = np.concatenate((self._hour_of_end(end_ms[~gap]), hour))
        every = np.concatenate((amounts[~gap], amounts[gap][step] * part))
        shared = hour[part < 1]
        spread = np.zeros(self._count, "bool")
        spread[shared[(shared >= 0) & (shared < self._count)]] = True
        return self._sum(hours, every), spread

    @staticmethod
    def _gaps(begin_ms: Integers, end_ms: Integers) -> NDArray[np.bool_]:
        """Which steps are so long that nothing is known of the time between."""
        length = end_ms - begin_ms
        usual = usual_intervals(np.append(0, np.cumsum(length)))[1:]
        return np.asarray(length > formulas.max_gap_seconds(usual / 1000) * 1000)

    def off_seconds(self, first_ms: int) -> None:
        """Account for the time without samples in hours that have some, from the entity's first sample on."""
        starts = self._from_ms + np.arange(self._count) * HOUR_MS
        there = np.clip(starts + HOUR_MS - first_ms, 0, HOUR_MS) / 1000
        self._sums["off_seconds"] = np.maximum(there - self._sums["observed_seconds"], 0.0)

    def rows(self, entity_id: int) -> list[tuple[object, ...]]:
        """One row for each hour that has something, in the order of the table's columns."""
        energy, sources = self._chosen_energy()
        sums = {**self._sums, **energy}
        there = np.flatnonzero(~np.isnan(list(sums.values())).all(axis=0))
        columns = [np.nan_to_num(sums.pop("observed_seconds")).tolist()]
        for column in list(schema.account.c)[4:]:
            if column.name == "energy_source":
                columns.append(sources)
            else:
                columns.append(
                    [None if value != value else value for value in sums.get(column.name, self._unknown).tolist()]
                )
        return [
            (1, entity_id, self._from_ms + hour * HOUR_MS, *(column[hour] for column in columns))
            for hour in there.tolist()
        ]

    def _chosen_energy(self) -> tuple[dict[str, Floats], list[str | None]]:
        """The counter's energy where it counted and agrees with the power samples, else theirs."""
        chosen = np.full(self._count, -1)
        energy = {name: self._unknown for found in self._energy.values() for name in found}
        for source, found in self._energy.items():
            covered = found["energy_seconds"]
            use = covered > 0
            if source == "counter":
                with np.errstate(invalid="ignore", divide="ignore"):
                    power = energy["energy_joules"] / energy["energy_seconds"]
                    use &= formulas.counter_is_sane(found["energy_joules"] / covered, power)
            energy = {name: np.where(use, found.get(name, self._unknown), before) for name, before in energy.items()}
            chosen[use] = SOURCES.index(source)
            if source == "counter":
                chosen[use & self._spread] = SOURCES.index("estimated")
        return energy, [None if number < 0 else SOURCES[number] for number in chosen]
