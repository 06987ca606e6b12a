"""The settings and the open database: each made once per server process, shared by all sessions."""

from __future__ import annotations

from pathlib import Path

import streamlit as st

from core.errors import StoreError
from core.settings import Settings, load
from storage import queries
from storage.engine import Address, reader_engine


class Store:
    """A database open for reading; ``engine`` cannot change a byte of it."""

    def __init__(self, address: Address) -> None:
        self.engine = reader_engine(address)
        with self.engine.connect() as connection:
            ready = queries.schema_is_current(connection)
        if not ready:
            self.close()
            raise StoreError(
                f"the database at {address} has no tables yet: the collector daemon creates them (make run)"
            )

    def close(self) -> None:
        """Let the connections go."""
        self.engine.dispose()


@st.cache_resource(show_spinner=False)
def settings() -> Settings:
    """The settings in force.

    Raises:
        ConfigError: one line that names the key and what was expected; not cached, so a mended file is read.
    """
    return load()


def open_store() -> Store:
    """The database named in the settings.

    Raises:
        StoreError: there is none (yet). Not cached: the next run looks again.
    """
    address = settings().storage.address
    return _open(address, address.stat().st_ino if isinstance(address, Path) and address.exists() else None)


@st.cache_resource(show_spinner=False, max_entries=2, on_release=Store.close)
def _open(address: Address, inode: int | None) -> Store:
    del inode  # part of the cache key: a file put in its place is another database
    return Store(address)
