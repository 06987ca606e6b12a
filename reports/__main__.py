"""``python -m reports weekly``: the weekly summary as files."""

from __future__ import annotations

import argparse
import logging
import sys
import time
from pathlib import Path

from core.command_line import Parser
from core.errors import ConfigError, StoreError
from core.settings import load

ENDS = "exit status: 0 done, 2 wrong settings or arguments, 3 the store or the folder cannot be used"


def main(arguments: list[str] | None = None) -> int:
    """Parse the command line, load the settings, write the files; one line where that cannot be done."""
    given = _parser().parse_args(arguments)
    logging.basicConfig(format="%(levelname)s %(message)s", level=logging.WARNING)
    try:
        return _weekly(given)
    except ConfigError as exc:
        print(exc, file=sys.stderr)  # noqa: T201
        return 2
    except StoreError as exc:
        print(exc, file=sys.stderr)  # noqa: T201
        return 3
    except OSError as exc:
        where, what = exc.filename or given.output, exc.strerror or exc
        print(f"{where} cannot be written ({what}): make room, or name another --output", file=sys.stderr)  # noqa: T201
        return 3
    except KeyboardInterrupt:
        print("stopped; files that were written stay, and none is half done", file=sys.stderr)  # noqa: T201
        return 130


def _weekly(given: argparse.Namespace) -> int:
    settings = load(given.config)
    from reports import weekly  # after the settings: a wrong one is told at once
    from reports.words import words

    formats = list(dict.fromkeys(name.strip() for name in (given.format or ",".join(weekly.FORMATS)).split(",")))
    for name in formats:
        if name not in weekly.FORMATS:
            raise ConfigError(f"--format {name!r}: expected some of {','.join(weekly.FORMATS)}")
    now_ms = time.time_ns() // 1_000_000
    words(given.language, settings.site.zone)  # before a second of reading: a wrong one is told at once
    week = weekly.week_of(given.week, settings, now_ms)
    summary = weekly.read(settings, week, now_ms)
    spoken = words(given.language, settings.site.zone, summary.exchange)
    for file in weekly.write(summary, formats, given.output, spoken):
        print(file)  # noqa: T201  the command's product
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = Parser(prog="python -m reports", description="What leaves Vatio as files.", epilog=ENDS)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    weekly = commands.add_parser(
        "weekly",
        help="the weekly summary",
        description="What a week cost and did against the week before, what was wasted, and what could be done. Reads "
        "the store, also while the collector daemon runs.",
        epilog=ENDS,
    )
    weekly.add_argument("--week", metavar="YYYY-Www", help="of ISO 8601, such as 2026-W46; default: the last whole one")
    weekly.add_argument("--format", metavar="A,B", help="json, csv, html, xlsx, pdf; default: all")
    weekly.add_argument("--output", type=Path, default=Path(), metavar="DIR", help="folder of the files; default: here")
    weekly.add_argument("--language", default="en", metavar="L", help="en, es, pt, or with a region such as es_CL")
    weekly.add_argument(
        "--config", metavar="FILE", help="settings (else $VATIO_CONFIG, else vatio.toml, else defaults)"
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
