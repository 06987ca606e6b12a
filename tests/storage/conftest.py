"""Every test of the store runs on both databases unless it says otherwise."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from storage.engine import Address

BOTH = ["sqlite", "postgresql"]


@pytest.fixture(params=BOTH)
def address(request: pytest.FixtureRequest, tmp_path: Path) -> Address:
    """Where the database of this test is; on PostgreSQL it has its tables already, which is quicker."""
    return tmp_path / "vatio.db" if request.param == "sqlite" else _make(request)()


@pytest.fixture(params=BOTH)
def empty_address(request: pytest.FixtureRequest, tmp_path: Path) -> Address:
    """The same without a table in it."""
    return tmp_path / "empty.db" if request.param == "sqlite" else _make(request)(migrated=False)


def _make(request: pytest.FixtureRequest) -> Callable[..., str]:
    make: Callable[..., str] = request.getfixturevalue("new_database")
    return make
