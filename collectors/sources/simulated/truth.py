"""What is wasted on purpose in the simulated fleet, as data: whoever looks for wastes must find these and no others.

Tests work out from these rows, the fleet and ``demo.toml`` what each costs in a week, and compare; ``docs/demo.md``
tells the same to people.
"""

from __future__ import annotations

from dataclasses import dataclass

from collectors.sources.simulated.fleet import (
    BATCH,
    CLOUD,
    FORGOTTEN,
    H100_1,
    H100_2,
    MI300X_1,
    Machine,
)

ALL_DAY = tuple(range(24))


@dataclass(frozen=True, slots=True, kw_only=True)
class Planted:
    """One waste.

    kind: as the weekly summary calls it.
    what: the name that it has there.
    machines: where it is.
    accelerators: on each machine; none where no device is at fault.
    utc_hours: whole hours of every day in which it wastes.
    why: how it came about.
    """

    kind: str
    what: str
    machines: tuple[Machine, ...]
    accelerators: tuple[int, ...]
    utc_hours: tuple[int, ...]
    why: str


PARKED = Planted(
    kind="parked model",
    what=FORGOTTEN,
    machines=(H100_2,),
    accelerators=(6, 7),
    utc_hours=ALL_DAY,
    why="a model that nobody asks any more was never taken down",
)
FREE = Planted(
    kind="free accelerator",
    what=f"2 x {H100_1.card.model}",
    machines=(H100_1,),
    accelerators=(6, 7),
    utc_hours=ALL_DAY,
    why="two GPUs of a server were bought for growth that has not come",
)
TROUGH = Planted(
    kind="night or weekend trough",
    what="deepseek-ai/DeepSeek-R1",
    machines=(CLOUD,),
    accelerators=tuple(range(CLOUD.cards)),
    utc_hours=tuple(range(2, 9)),
    why="a rented machine serves offices that are closed at night, and is paid for around the clock",
)
COMMITMENT = Planted(
    kind="unused commitment",
    what="Querétaro hall (simulated)",
    machines=(H100_1, H100_2, MI300X_1),
    accelerators=(),
    utc_hours=ALL_DAY,
    why="more power was contracted in the hall than its machines draw",
)
DEAR = Planted(
    kind="dear hours",
    what=BATCH,
    machines=(MI300X_1,),
    accelerators=(4, 5, 6, 7),
    utc_hours=ALL_DAY,
    why="the daily batch begins when its data are there, at 16:00, and runs through the evening peak of the tariff",
)
PLANTED = (PARKED, FREE, TROUGH, COMMITMENT, DEAR)
