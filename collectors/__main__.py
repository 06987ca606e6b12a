"""``python -m collectors run | once | doctor``."""

from __future__ import annotations

import argparse
import logging
import sys

from core.command_line import Parser, ended
from core.settings import load


def main(arguments: list[str] | None = None) -> int:
    """Parse the command line, load the settings, do it; one line on bad input."""
    common = Parser(add_help=False)  # before the command and after it
    common.add_argument(
        "--config",
        metavar="FILE",
        default=argparse.SUPPRESS,
        help="settings (else $VATIO_CONFIG, else vatio.toml, else defaults)",
    )
    parser = Parser(prog="python -m collectors", description="Vatio's collectors", parents=[common])
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("run", parents=[common], help="collect until Ctrl-C (the daemon)")
    once = commands.add_parser("once", parents=[common], help="look once at everything; print and store it")
    once.add_argument("--json", action="store_true", help="print every reading with unit and source as JSON")
    commands.add_parser("doctor", parents=[common], help="what works here, what does not, why, and what to do")
    given = parser.parse_args(arguments)
    logging.basicConfig(format="%(asctime)s %(levelname)s %(message)s", level=logging.INFO)
    logging.getLogger("alembic").setLevel(logging.WARNING)
    logging.getLogger("httpx").setLevel(logging.WARNING)
    return ended(lambda: _do(given))


def _do(given: argparse.Namespace) -> int:
    config = getattr(given, "config", None)
    settings = load(config)
    from collectors import commands as do  # after the settings: a wrong one is told at once

    if given.command == "run":
        return do.run(settings, config)
    if given.command == "once":
        return do.once(settings, as_json=given.json)
    return do.doctor(settings)


if __name__ == "__main__":
    sys.exit(main())
