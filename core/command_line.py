"""Command lines that say what is wrong on one line."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from typing import NoReturn

from core.errors import ConfigError, StoreError


class Parser(argparse.ArgumentParser):
    """Names what it cannot take, and where to read on; exit status 2."""

    def error(self, message: str) -> NoReturn:
        """End with the one line."""
        self.exit(2, f"{self.prog}: {message}; see {self.prog} --help\n")


def ended(work: Callable[[], int]) -> int:
    """The exit status of a command's work: 2 for wrong settings, 3 for a store that cannot be used, with their line."""
    try:
        return work()
    except ConfigError as exc:
        print(exc, file=sys.stderr)  # noqa: T201
        return 2
    except StoreError as exc:
        print(exc, file=sys.stderr)  # noqa: T201
        return 3
