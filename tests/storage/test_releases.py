"""A database of every released schema opens with all its data, and goes on as if it were new.

``revision-NNNN.db.gz`` was written by the release whose newest migration that was: two accelerators, two sockets,
a host and a server over 45 minutes in which an hour ends; from 0005 on also a weekly summary that was sent.
"""

from __future__ import annotations

import gzip
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import pytest
from alembic.script import ScriptDirectory
from sqlalchemy import Engine

from core.catalog import FAMILIES
from core.readings import AcceleratorSample
from core.settings import StorageSettings
from storage import migrate, queries, summaries
from storage.batch import Batch
from storage.engine import reader_engine, writer_engine
from storage.session import writing
from storage.upkeep import Upkeep
from storage.writer import Writer

FILES = Path(__file__).parent.parent / "fixtures" / "databases"
END_MS = 1_760_055_600_000 + 20 * 60_000
BEGIN_MS = END_MS - 45 * 60_000
FOREVER = (0, 1 << 50)
# What a person read off the file: samples by family, and figures of the first accelerator.
SAMPLES = {"accelerator": 542, "cpu": 542, "host": 271, "deployment": 271}


@dataclass
class Opened:
    path: Path
    writer: Writer
    reader: Engine


@pytest.fixture(params=sorted(FILES.glob("revision-*.db.gz")), ids=lambda file: file.name.split(".")[0])
def opened(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Opened]:
    path = tmp_path / "vatio.db"
    path.write_bytes(gzip.decompress(request.param.read_bytes()))
    with writing(path, host="node-1") as writer:
        reader = reader_engine(path)
        yield Opened(path, writer, reader)
        reader.dispose()


def test_there_is_a_file_of_every_revision():
    scripts = ScriptDirectory.from_config(migrate._config())
    revisions = {script.revision for script in scripts.walk_revisions()}
    assert {file.name.split(".")[0].removeprefix("revision-") for file in FILES.iterdir()} == revisions


def test_what_was_kept_and_sent_stays_so(opened: Opened, request: pytest.FixtureRequest):
    if request.node.callspec.id >= "revision-0005":
        assert summaries.content(opened.reader, "2025-W41", 1) == '{"name": "2025-W41"}'
        assert not summaries.claim(opened.writer.engine, "2025-W41", "managers", 1, 1 << 50)


def everything(reader: Engine) -> dict[str, pd.DataFrame]:
    frames = {}
    for family in SAMPLES:
        frames[family] = queries.raw(reader, family, [m.name for m in FAMILIES[family].metrics], None, *FOREVER)
    frames["latency"] = queries.latency(reader, None, ["ttft", "itl", "e2e", "queue"], *FOREVER, 60_000)
    frames["events"] = queries.events(reader, *FOREVER)
    frames["assignments"] = queries.assignments(reader, *FOREVER)
    frames["entities"] = queries.entities(reader)
    return frames


def test_its_data_are_all_there(opened: Opened):
    frames = everything(opened.reader)
    assert {family: len(frames[family]) for family in SAMPLES} == SAMPLES
    assert len(frames["events"]) == 5
    assert frames["latency"]["increments"].map(sum).sum() == 4 * 271 * 20
    device = frames["entities"].set_index("key").loc["GPU-1111-2222", "entity_id"]
    one = frames["accelerator"][frames["accelerator"]["entity_id"] == device]
    assert one["energy_joules_total"].iloc[-1] - one["energy_joules_total"].iloc[0] == pytest.approx(45 * 60 * 500)
    assert one["power_limit_watts"].unique().tolist() == [700.0]


def test_it_is_sealed_and_accounted_and_reads_the_same(opened: Opened):
    before = everything(opened.reader)
    upkeep = Upkeep(opened.reader, opened.writer, StorageSettings(keep_samples_days=100_000))
    upkeep.run(END_MS + 2 * 3_600_000)
    sizes = queries.store_size(opened.reader).set_index("table")
    assert sizes.loc["accelerator_sample", "sealed"] == SAMPLES["accelerator"] - 2  # the newest of each stays a row
    after = everything(opened.reader)
    for name, frame in before.items():
        pd.testing.assert_frame_equal(after[name], frame)
    hour_ms = END_MS // 3_600_000 * 3_600_000
    accounts = queries.accounts(opened.reader, "accelerator", None, [hour_ms - 3_600_000, hour_ms, hour_ms + 3_600_000])
    known = accounts.dropna(subset=["energy_joules"])
    counted = known[known["energy_source"] == "counter"]
    assert counted["energy_joules"].sum() == pytest.approx(45 * 60 * 500)
    opened.writer.submit(Batch((AcceleratorSample(key="GPU-1111-2222", observed_at_ms=END_MS + 5, power_watts=1.0),)))
    opened.writer.call(lambda _: None)
    opened.writer.wait_below(1)
    opened.writer.call(lambda _: None)
    assert len(queries.raw(opened.reader, "accelerator", ["power_watts"], None, *FOREVER)) == SAMPLES["accelerator"] + 1


def test_a_new_database_is_no_other_than_an_upgraded_one(opened: Opened, tmp_path: Path):
    new = writer_engine(tmp_path / "new.db")
    migrate.upgrade(new)

    def columns(engine: Engine) -> list[tuple[str, ...]]:
        with engine.connect() as connection:
            found = connection.exec_driver_sql(
                "SELECT t.name, c.name, c.type, c.pk FROM pragma_table_list t, pragma_table_info(t.name) c "
                "WHERE t.schema = 'main' ORDER BY t.name, c.cid"
            )
            return [tuple(row) for row in found if not str(row[0]).startswith("sqlite_")]

    assert columns(opened.reader) == columns(new)
