"""Kills a writing, sealing, accounting process again and again and looks at what it leaves behind.

Run as a program: database, how many times, seed. Each round forks a child, so that nothing is imported anew;
the child says which ticks are stored, and is killed by SIGKILL at a random moment.
"""

from __future__ import annotations

import os
import random
import signal
import sys
import time
from pathlib import Path

from sqlalchemy import text

from core.readings import AcceleratorSample, Latency, LatencySample
from core.settings import StorageSettings
from storage import queries
from storage.batch import Batch
from storage.engine import reader_engine, writer_engine
from storage.migrate import upgrade
from storage.upkeep import SETTLE_MS, Upkeep
from storage.writer import Writer

BEGIN_MS = 20_371 * 86_400_000
STEP_MS = 60_000
TICKS_AT_ONCE = 90
BOUNDS = (1.0, float("inf"))


def watts(tick: int) -> float:
    return tick * 7 % 1000 / 8


def work(path: Path, tick: int, acknowledge: int) -> None:
    """Store ticks from ``tick`` on, an hour and a half at a time, and keep the store in order in between."""
    engine = writer_engine(path)
    upgrade(engine)
    writer = Writer(engine, host="box", flush_seconds=0.0)
    writer.start()
    upkeep = Upkeep(reader_engine(path), writer, StorageSettings(keep_samples_days=100_000, keep_ticks_days=1))
    while True:
        for n in range(tick, tick + TICKS_AT_ONCE):
            at_ms = BEGIN_MS + n * STEP_MS
            writer.submit(
                Batch(
                    (
                        *(
                            AcceleratorSample(
                                key=key,
                                observed_at_ms=at_ms,
                                power_watts=watts(n),
                                energy_joules_total=float(n),
                                processes=n % 2,
                            )
                            for key in "AB"
                        ),
                        LatencySample(
                            key="d",
                            kind=Latency.TTFT,
                            observed_at_ms=at_ms,
                            upper_bounds_seconds=BOUNDS,
                            increments=(1.0, 2.0),
                            sum_seconds=0.5,
                        ),
                    )
                )
            )
        writer.call(lambda _: None)
        writer.wait_below(1)
        writer.call(lambda _: None)
        tick += TICKS_AT_ONCE
        os.write(acknowledge, f"{tick}\n".encode())
        upkeep.run(BEGIN_MS + tick * STEP_MS + SETTLE_MS)


def look(path: Path, acknowledged: int) -> int:
    """Check everything; the tick with which to go on."""
    engine = reader_engine(path)
    with engine.connect() as connection:
        assert connection.execute(text("PRAGMA integrity_check")).scalar_one() == "ok"
    metrics = ["power_watts", "energy_joules_total"]
    frame = queries.raw(engine, "accelerator", metrics, None, 0, 1 << 50)
    ticks = (queries.epoch_ms(frame["observed_at"]) - BEGIN_MS) // STEP_MS
    stored = 0
    for _, of in frame.assign(tick=ticks).groupby("entity_id"):
        stored = len(of)
        assert of["tick"].tolist() == list(range(stored)), "a tick is missing or there twice"
        assert stored >= acknowledged, f"{acknowledged} ticks were acknowledged, {stored} are there"
        assert (of["power_watts"] == [watts(n) for n in range(stored)]).all()
    if not stored:
        return 0
    # Long steps are answered from aggregates, short ones from blocks and rows: nothing may be there twice.
    end_ms = BEGIN_MS + (stored * STEP_MS // (24 * 3_600_000) + 1) * 24 * 3_600_000
    days = queries.read(engine, "accelerator", metrics, None, BEGIN_MS, end_ms, 24 * 3_600_000)
    assert days["samples"].sum() == len(frame)
    assert days["energy_joules_total"].sum() == 2 * (stored - 1)
    histograms = queries.latency(engine, None, ["ttft"], BEGIN_MS, end_ms)
    assert histograms["increments"].item().tolist() == [stored, 2 * stored]
    engine.dispose()
    return stored


def main(path: Path, times: int, seed: int) -> None:
    chance, acknowledged, tick = random.Random(seed), 0, 0
    upgrade(writer_engine(path))
    for _ in range(times):
        mine, its = os.pipe()
        child = os.fork()
        if child == 0:
            os.close(mine)
            work(path, tick, its)
        os.close(its)
        time.sleep(chance.uniform(0.01, 0.2))
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        with os.fdopen(mine) as said:
            acknowledged = max([acknowledged, *map(int, said.read().split())])
        tick = look(path, acknowledged)
    print(f"{times} kills, {tick} ticks of two devices, all there once")


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
