from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import inspect, text
from sqlalchemy.exc import DBAPIError

from core.catalog import FAMILIES
from core.errors import StoreError, StoreLocked
from core.readings import CpuSample
from storage import migrate, queries, schema
from storage.engine import Address, exclusive, reader_engine, writer_engine
from storage.postgres import is_partition
from storage.session import writing
from tests.conftest import Store


def test_upgrade_from_empty_equals_the_metadata(empty_address: Address):
    engine = writer_engine(empty_address)
    migrate.upgrade(engine)

    def ours(name: str | None, kind: str, _: object) -> bool:
        return kind != "table" or name is None or not is_partition(name)

    with engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True, "include_name": ours})
        assert compare_metadata(context, schema.metadata) == []
    engine.dispose()


def test_tables_are_strict_and_facts_have_no_rowid(tmp_path: Path):
    engine = writer_engine(tmp_path / "a.db")
    migrate.upgrade(engine)
    with engine.connect() as connection:
        rows = connection.execute(text("SELECT name, wr, strict FROM pragma_table_list WHERE schema = 'main'")).all()
    tables = {name: (wr, strict) for name, wr, strict in rows if not name.startswith(("sqlite_", "alembic_"))}
    assert set(tables) == set(schema.metadata.tables)
    assert all(strict for _, strict in tables.values())
    assert all(tables[table.name][0] for table in schema.samples.values())
    assert not any(tables[table.name][0] for table in schema.blocks.values())  # long rows: tighter with a rowid


def test_every_metric_has_its_column():
    for name, family in FAMILIES.items():
        assert {metric.name for metric in family.metrics} <= set(schema.samples[name].columns.keys())


def test_upgrade_twice_changes_nothing(empty_address: Address):
    engine = writer_engine(empty_address)
    migrate.upgrade(engine)
    migrate.upgrade(engine)
    assert inspect(engine).has_table("accelerator_sample")
    engine.dispose()


def test_revisions_can_be_taken_back_one_by_one(empty_address: Address):
    engine = writer_engine(empty_address)
    migrate.upgrade(engine)

    def taken_back() -> None:
        with engine.begin() as connection:
            command.downgrade(migrate._config(connection), "-1")

    taken_back()
    assert not inspect(engine).has_table("weekly_summary")
    assert "active_joules" in {column["name"] for column in inspect(engine).get_columns("account")}
    taken_back()
    assert "active_joules" not in {column["name"] for column in inspect(engine).get_columns("account")}
    assert "chunks" in {column["name"] for column in inspect(engine).get_columns("probe_sample")}
    taken_back()
    assert "chunks" not in {column["name"] for column in inspect(engine).get_columns("probe_sample")}
    assert inspect(engine).has_table("accelerator_block")
    taken_back()
    assert not inspect(engine).has_table("accelerator_block")
    assert inspect(engine).has_table("accelerator_sample")
    engine.dispose()


def test_a_database_of_a_newer_release_is_refused(empty_address: Address):
    engine = writer_engine(empty_address)
    migrate.upgrade(engine)
    with engine.begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(StoreError, match=r"revision 9999.*install that release"):
        migrate.upgrade(engine)
    engine.dispose()


def test_the_reader_cannot_write(store: Store):
    refused = pytest.raises(DBAPIError, match=r"readonly database|read-only transaction")
    for statement in ("DELETE FROM entity", "CREATE TABLE more (what TEXT)", "DROP TABLE event"):
        with store.reader.connect() as connection, refused:
            connection.execute(text(statement))


def test_one_answer_sees_one_state(store: Store):
    store.write(CpuSample(key="c", observed_at_ms=1))
    count = text("SELECT count(*) FROM cpu_sample")
    with store.reader.connect() as connection:
        assert connection.execute(count).scalar_one() == 1
        store.write(CpuSample(key="c", observed_at_ms=2))
        assert connection.execute(count).scalar_one() == 1
    with store.reader.connect() as connection:
        assert connection.execute(count).scalar_one() == 2


def test_no_database_is_said_in_one_line(tmp_path: Path):
    with pytest.raises(StoreError, match="start the collector daemon"):
        reader_engine(tmp_path / "none.db")


def test_a_second_writer_is_refused_and_told_who_holds_it(tmp_path: Path):
    refused = pytest.raises(StoreLocked, match=r"another Vatio daemon \(process \d+\)")
    with exclusive(tmp_path / "a.db"), refused, exclusive(tmp_path / "a.db"):
        pass
    with exclusive(tmp_path / "a.db"):
        pass


def _a_directory(path: Path) -> None:
    path.mkdir()


def _garbage(path: Path) -> None:
    path.write_bytes(b"not a database at all" * 500)


def _foreign_tables(path: Path) -> None:
    engine = writer_engine(path)
    with engine.begin() as connection:
        connection.execute(text("CREATE TABLE entity (what TEXT)"))
    engine.dispose()


def _parent_is_a_file(path: Path) -> None:
    path.parent.rmdir()
    path.parent.write_text("")


@pytest.mark.parametrize("spoil", [_a_directory, _garbage, _foreign_tables, _parent_is_a_file])
def test_a_file_that_cannot_be_used_is_said_in_one_line(tmp_path: Path, spoil: Callable[[Path], None]):
    path = tmp_path / "sub" / "vatio.db"
    path.parent.mkdir()
    spoil(path)
    with (
        pytest.raises(StoreError, match=r"cannot be used as a database .* set storage\.url") as told,
        writing(path, host="box"),
    ):
        pass
    assert "\n" not in str(told.value)


def test_a_path_with_signs_that_mean_something_in_an_address(tmp_path: Path):
    path = tmp_path / "a%20b?c#d.db"
    with writing(path, host="box"):
        assert path.exists()
    assert queries.newest_sample_at_ms(reader_engine(path)) is None
