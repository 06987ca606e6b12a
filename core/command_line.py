"""Command lines that say what is wrong on one line."""

from __future__ import annotations

import argparse
from typing import NoReturn


class Parser(argparse.ArgumentParser):
    """Names what it cannot take, and where to read on; exit status 2."""

    def error(self, message: str) -> NoReturn:
        """End with the one line."""
        self.exit(2, f"{self.prog}: {message}; see {self.prog} --help\n")
