from __future__ import annotations

from collectors.clock import Clock, on_tick, without_counters
from core.readings import AcceleratorSample, Event

SECOND = 1_000_000_000


class Time:
    """Two clocks; only one of them can be set."""

    def __init__(self) -> None:
        self.wall, self.steady = 1_760_000_000 * SECOND, 5 * SECOND

    def passes(self, seconds: float) -> None:
        self.wall += round(seconds * SECOND)
        self.steady += round(seconds * SECOND)


def test_time_that_passes_is_no_step_and_neither_is_its_synchronisation():
    time = Time()
    clock = Clock(lambda: time.wall, lambda: time.steady)
    for _ in range(50):
        time.passes(10)
        time.wall += SECOND // 2
        assert clock.step() == ()


def test_a_step_is_told_once_with_its_direction_and_size():
    time = Time()
    clock = Clock(lambda: time.wall, lambda: time.steady)
    time.wall -= 3600 * SECOND
    (back,) = clock.step()
    assert back.message.startswith("the clock was set back by 3,600 s")
    assert clock.step() == ()
    time.wall += 86_400 * SECOND
    (forward,) = clock.step()
    assert forward.message.startswith("the clock was set forward by 86,400 s")


def test_counters_are_unknown_until_time_has_caught_up():
    """So that the hour that is lived twice does not look like restarts; the rest of the sample is kept."""
    readings = [
        AcceleratorSample(key="G", observed_at_ms=at_ms, power_watts=5.0, energy_joules_total=9.0, processes=1)
        for at_ms in (999, 1000, 1001)
    ]
    event = Event(observed_at_ms=1, kind="x", severity="info", message="")  # type: ignore[arg-type]
    *samples, last = without_counters([*readings, event], newest_ms=1000)
    assert [sample.energy_joules_total for sample in samples] == [None, None, 9.0]  # type: ignore[union-attr]
    assert [(sample.power_watts, sample.processes) for sample in samples] == [(5.0, 1)] * 3  # type: ignore[union-attr]
    assert last is event


def test_a_sample_taken_on_time_carries_the_instant_of_its_tick():
    taken = [AcceleratorSample(key="G", observed_at_ms=at_ms) for at_ms in (999, 1000, 1100, 1101)]
    assert [one.observed_at_ms for one in on_tick(taken, 1000, 100)] == [999, 1000, 1000, 1101]  # type: ignore[union-attr]
