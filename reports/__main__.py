"""``python -m reports weekly | due``: the weekly summary as files, and what the daemon has to do about it."""

from __future__ import annotations

import argparse
import logging
import sys
import time
from pathlib import Path

from core.command_line import Parser, ended
from core.errors import ConfigError
from core.settings import Settings, load

ENDS = (
    "exit status: 0 done, 1 somebody did not get it, 2 wrong settings or arguments, "
    "3 the store or the folder cannot be used"
)


def main(arguments: list[str] | None = None) -> int:
    """Parse the command line, load the settings, write the files; one line where that cannot be done."""
    given = _parser().parse_args(arguments)
    logging.basicConfig(format="%(levelname)s %(message)s", level=logging.WARNING)
    try:
        return ended(lambda: _due(given) if given.command == "due" else _weekly(given))
    except OSError as exc:
        where, what = exc.filename or getattr(given, "output", "a temporary file"), exc.strerror or exc
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
    if given.deliver:
        return _deliver(settings, week, now_ms)
    summary = None if given.rebuild else weekly.read_as_kept(settings, week, given.version)
    if summary is None:
        summary = weekly.read(settings, week, now_ms)
    spoken = words(given.language, settings.site.zone, summary.exchange)
    for file in weekly.write(summary, formats, given.output, spoken):
        print(file)  # noqa: T201  the command's product
    return 0


def _deliver(settings: Settings, week: tuple[int, int], now_ms: int) -> int:
    """Send a week to everybody at once, whatever became of it before; 1 where somebody did not get it."""
    from reports.due import send_again

    missed = 0
    for line, is_sent in send_again(settings, week, now_ms):
        print(line, file=sys.stdout if is_sent else sys.stderr)
        missed += not is_sent
    return 1 if missed else 0


def _due(given: argparse.Namespace) -> int:
    settings = load(given.config)
    from reports.due import due

    for line in due(settings, time.time_ns() // 1_000_000):
        print(line, flush=True)  # noqa: T201
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
    which = weekly.add_mutually_exclusive_group()
    which.add_argument("--rebuild", action="store_true", help="from the accounts, even where the week was kept")
    which.add_argument("--version", type=int, metavar="N", help="of the week as it was kept; default: the newest")
    weekly.add_argument("--deliver", action="store_true", help="send it to every [[summary.deliver]]; writes no files")
    due = commands.add_parser(
        "due",
        help="keep the weeks that are over, and send the last one when it is time (the daemon starts this)",
        description="Keeps each week that is over, and once more where prices or late data change it; sends the last "
        "one to every [[summary.deliver]] that has not got it. Safe to run at any time.",
        epilog=ENDS,
    )
    for command in (weekly, due):
        command.add_argument(
            "--config", metavar="FILE", help="settings (else $VATIO_CONFIG, else vatio.toml, else defaults)"
        )
    return parser


if __name__ == "__main__":
    sys.exit(main())
