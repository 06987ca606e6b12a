"""Databases that pages are tested on: none, empty, stale, full, and one without accelerators."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import streamlit as st
from streamlit.testing.v1 import AppTest

from storage.engine import writer_engine
from storage.migrate import upgrade
from tests.pages import databases

ROOT = Path(__file__).resolve().parents[2]
Open = Callable[..., AppTest]


@pytest.fixture(autouse=True)
def _fresh_caches() -> Iterator[None]:
    """Caches outlive a test's database: one test must not see another's."""
    st.cache_data.clear()
    st.cache_resource.clear()
    yield
    st.cache_data.clear()
    st.cache_resource.clear()


@pytest.fixture
def database(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the settings say that the database is; nothing lies there yet."""
    path = tmp_path / "vatio.db"
    config = tmp_path / "vatio.toml"
    config.write_text(f'[storage]\nurl = "sqlite:///{path}"\n[site]\ntime_zone = "America/Santiago"\n')
    monkeypatch.setenv("VATIO_CONFIG", str(config))
    return path


@pytest.fixture
def now_ms() -> int:
    """The present (Unix ms): pages compare what they find with the clock."""
    return int(time.time() * 1000)


@pytest.fixture
def empty(database: Path) -> Path:
    """A database with tables and not one row."""
    engine = writer_engine(database)
    upgrade(engine)
    engine.dispose()
    return database


@pytest.fixture
def full(database: Path, now_ms: int) -> Path:
    """Accelerators of two vendors, CPUs and a server, up to this moment."""
    databases.write(database, now_ms)
    return database


@pytest.fixture
def stale(database: Path, now_ms: int) -> Path:
    """The same, but nothing was stored for the last five minutes."""
    databases.write(database, now_ms - 300_000)
    return database


@pytest.fixture
def cpu_only(database: Path, now_ms: int) -> Path:
    """The usual first visit: a machine without accelerators or servers."""
    databases.write(database, now_ms, accelerators=False, serving=False)
    return database


@pytest.fixture
def open_page() -> Open:
    """Run one page file by itself, as Streamlit would."""

    def open_(page: str, **session: object) -> AppTest:
        test = AppTest.from_file(str(ROOT / "pages" / f"{page}.py"), default_timeout=30)
        for key, value in session.items():
            test.session_state[key] = value
        return test.run()

    return open_
