"""What every test here needs: the servers installed, and one daemon watching one of them under load."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.servers.install import Installed, default_directory


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--servers", metavar="DIRECTORY", help="where tests/servers/install.py put the servers")


@pytest.fixture(scope="session")
def installed(pytestconfig: pytest.Config) -> Installed:
    """The servers; a run that asked for these tests must not pass without them."""
    found = Installed(Path(pytestconfig.getoption("--servers", default=None) or default_directory()).absolute())
    if found.missing:
        pytest.fail(f"{found.missing[0]} is missing: run python tests/servers/install.py")
    return found
