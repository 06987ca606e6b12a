"""Bring a database to the schema of this release, and refuse one that is newer."""

from __future__ import annotations

from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, Engine

from core.errors import StoreError
from storage import postgres

SCRIPTS = Path(__file__).with_name("migrations")


def _config(connection: Connection | None = None) -> Config:
    config = Config()
    config.set_main_option("script_location", str(SCRIPTS).replace("%", "%%"))
    config.attributes["connection"] = connection
    return config


def newest_revision() -> str:
    """The schema of this release."""
    return ScriptDirectory.from_config(_config()).get_current_head() or ""


def upgrade(engine: Engine) -> None:
    """Run the pending migrations in one transaction.

    Raises:
        StoreError: the database was written by a newer Vatio, or is not one of ours.
    """
    scripts = ScriptDirectory.from_config(_config())
    with engine.begin() as connection:
        postgres.take_turns(connection, "upgrade", patient=True)  # two daemons that start at once
        current = MigrationContext.configure(connection).get_current_revision()
        known = {script.revision for script in scripts.walk_revisions()}
        if current is not None and current not in known:
            raise StoreError(
                f"unknown schema revision {current} in the database: this Vatio is older than the one that wrote it; "
                "install that release, or set storage.url to another"
            )
        if current != scripts.get_current_head():
            command.upgrade(_config(connection), "head")
