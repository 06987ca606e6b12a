from __future__ import annotations

from collectors.clock import Clock, Newest, on_tick
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


def sample(at_ms: int, key: str = "G") -> AcceleratorSample:
    return AcceleratorSample(key=key, observed_at_ms=at_ms, power_watts=5.0, energy_joules_total=9.0, processes=1)


def counters(newest: Newest, *samples: AcceleratorSample) -> list[float | None]:
    return [one.energy_joules_total for one in newest.without_counters(samples)]  # type: ignore[union-attr]


def test_counters_are_unknown_until_time_has_caught_up():
    """So that the hour that is lived twice does not look like restarts; the rest of the sample is kept."""
    newest = Newest()
    newest.without_counters([sample(1000)])
    event = Event(observed_at_ms=1, kind="x", severity="info", message="")  # type: ignore[arg-type]
    *samples, last = newest.without_counters([sample(999), sample(1000), sample(1001), event])
    assert [one.energy_joules_total for one in samples] == [None, None, 9.0]  # type: ignore[union-attr]
    assert [(one.power_watts, one.processes) for one in samples] == [(5.0, 1)] * 3  # type: ignore[union-attr]
    assert last is event


def test_a_thing_whose_time_lies_behind_that_of_others_keeps_its_counters():
    """As on a hub: each of the daemons it reads has ticks of its own, and a clock of its own."""
    newest = Newest()
    assert counters(newest, sample(1000, "fast"), sample(400, "slow"), sample(500, "slow")) == [9.0, 9.0, 9.0]
    assert counters(newest, sample(500, "slow"), sample(600, "slow")) == [None, 9.0]


def test_a_sample_taken_on_time_carries_the_instant_of_its_tick():
    taken = [sample(at_ms) for at_ms in (1000, 1001, 1050, 1100, 1101)]
    moved = on_tick(taken, 1000, 100, began_at_ms=1002)
    assert [one.observed_at_ms for one in moved] == [1000, 1001, 1000, 1000, 1101]  # type: ignore[union-attr]
