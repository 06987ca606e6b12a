"""``python -m storage info | check | backup | export | compact | rebuild-accounts | distribute``."""

from __future__ import annotations

import argparse
import logging
import os
import signal
import sys
from pathlib import Path

from core.command_line import Parser, ended
from core.settings import load

DESCRIPTION = """\
One-off commands of Vatio's store, for SQLite and PostgreSQL alike. info, check, backup and export read, also while
the collector daemon runs; compact and rebuild-accounts write, so stop it before."""
ENDS = "exit status: 0 done, 1 check found something, 2 wrong settings or arguments, 3 the store cannot be used"
TIME = (
    "an ISO date or date and time such as 2026-11-25 or 2026-11-25T08:30Z; without a zone in site.time_zone, "
    "a date is its midnight"
)
FAMILIES = ("accelerator", "cpu", "host", "deployment", "probe", "latency", "events", "ticks", "accounts")


def main(arguments: list[str] | None = None) -> int:
    """Parse the command line, load the settings, do it; one line where it cannot be done."""
    given = _parser().parse_args(arguments)
    logging.basicConfig(format="%(levelname)s %(message)s", level=logging.WARNING)
    try:
        status = ended(lambda: _do(given))
        sys.stdout.flush()  # what is buffered may still not fit
        return status
    except BrokenPipeError:  # whoever read the output has seen enough
        _write_no_more()
        return 0
    except OSError as exc:
        if not exc.filename:
            _write_no_more()
        where = exc.filename or "the output"
        print(f"{where} cannot be used ({exc.strerror or exc}): make room, or name another place", file=sys.stderr)  # noqa: T201
        return 3
    except KeyboardInterrupt:
        print("stopped; what was done stays, and nothing is half done", file=sys.stderr)  # noqa: T201
        return 130


def _do(given: argparse.Namespace) -> int:
    settings = load(getattr(given, "config", None))
    from storage import commands as do  # after the settings: a wrong one is told at once

    return do.COMMANDS[given.command](settings, given)


def _write_no_more() -> None:
    """Send what is left in the buffers nowhere, since writing it when Python ends would fail once more."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _parser() -> argparse.ArgumentParser:
    common = Parser(add_help=False)  # before the command and after it
    common.add_argument(
        "--config",
        metavar="FILE",
        default=argparse.SUPPRESS,
        help="settings (else $VATIO_CONFIG, else vatio.toml, else defaults)",
    )
    parser = Parser(prog="python -m storage", description=DESCRIPTION, epilog=ENDS, parents=[common])
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def command(name: str, summary: str, more: str = "") -> argparse.ArgumentParser:
        described = f"{summary[0].upper()}{summary[1:]}. {more}".strip()
        return commands.add_parser(name, parents=[common], help=summary, description=described, epilog=ENDS)

    info = command(
        "info",
        "what the store holds, how it grows, and when the disk is full",
        "Growth is what the last seven days with data really took.",
    )
    info.add_argument("--json", action="store_true", help="print it as JSON, times in ISO 8601 and sizes in bytes")

    command(
        "check",
        "whether everything stored is what was written",
        "Reads every payload, so a large store takes minutes. Prints one line per finding: what is wrong, what that "
        "costs and what to do. Changes nothing.",
    )

    backup = command(
        "backup",
        "copy the store into one file while the daemon goes on writing",
        "The copy is checked before it gets its name. Batches that wait in the spool are not in it. SQLite only: of a "
        "PostgreSQL database make a backup with pg_dump.",
    )
    backup.add_argument("file", type=Path, metavar="FILE", help="the file to write; to restore, put it in storage.url")
    backup.add_argument("--force", action="store_true", help="replace FILE if it is there already")

    export = command(
        "export",
        "write samples, histograms, events, ticks or accounts as Parquet or CSV",
        "Unknown is null or an empty cell, never 0. Times are UTC. Memory does not grow with the range.",
    )
    export.add_argument("--family", required=True, choices=FAMILIES, help=f"one of {', '.join(FAMILIES)}", metavar="F")
    export.add_argument("--from", dest="start", required=True, metavar="T", help=f"first instant: {TIME}")
    export.add_argument("--to", dest="end", required=True, metavar="T", help="the instant before which it ends")
    export.add_argument(
        "--metrics",
        metavar="A,B",
        help="only these (docs/metrics.md); of latency the kinds, of accounts the columns; default: all",
    )
    export.add_argument(
        "--entity", action="append", default=[], metavar="KEY", help="only this one; may be repeated; default: all"
    )
    export.add_argument(
        "--step",
        type=_step,
        metavar="SECONDS",
        help="one row per step: mean, min and max of gauges, increase of counters, sums of histograms; "
        "of accounts 3600 or 86400; default: as observed",
    )
    export.add_argument("--format", required=True, choices=("parquet", "csv"), help="of the file")
    export.add_argument("--output", required=True, metavar="FILE", help="the file to write, or - for standard output")

    command(
        "compact",
        "seal, account, remove what is too old and give free space back, now",
        "The daemon does all this by itself, bit by bit. A SQLite file of the first release is written anew once; "
        "that needs as much free space as it holds, twice where temporary files lie on the same disk.",
    )

    rebuild = command(
        "rebuild-accounts",
        "make hourly and daily accounts again from raw samples",
        "Only where raw samples are still kept; older accounts stay as they are.",
    )
    rebuild.add_argument("--from", dest="start", metavar="DATE", help=f"default: as far back as can be; {TIME}")
    rebuild.add_argument("--to", dest="end", metavar="DATE", help="the instant before which it ends; default: now")

    command(
        "distribute",
        "spread the tables of a PostgreSQL database over a Citus cluster, by entity",
        "Once, before the first daemon writes. By its documentation; nobody has run it yet: try a copy.",
    )
    return parser


def _step(text: str) -> float:
    seconds = float(text)
    if not 1 <= seconds <= 366 * 86_400:
        raise ValueError(text)
    return seconds


_step.__name__ = "number of seconds from 1 on"  # as argparse calls what it could not read


if __name__ == "__main__":
    status = main()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # all is done and said
    sys.exit(status)
