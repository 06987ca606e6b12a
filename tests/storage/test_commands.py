"""The command line as people type it, each time in a process of its own."""

from __future__ import annotations

import csv
import io
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from sqlalchemy import update

from core.errors import ConfigError
from core.readings import AcceleratorSample, Entity
from core.settings import StorageSettings
from storage import schema
from storage.__main__ import FAMILIES, main
from storage.commands import COMMANDS, instant_ms
from storage.export_columns import CHOICES
from storage.session import writing
from storage.upkeep import Upkeep
from tests.conftest import Store
from tests.e2e import daemon

ROOT = Path(__file__).parents[2]
HOUR_MS = 3_600_000
START_MS = 20_371 * 24 * HOUR_MS
SAMPLES = 400

sqlite = pytest.mark.parametrize("address", ["sqlite"], indirect=True)


def run(*words: str, **env: str) -> subprocess.CompletedProcess[str]:
    """One command to its end."""
    command = [sys.executable, "-m", "storage", *words]
    return subprocess.run(command, cwd=ROOT, env={**os.environ, **env}, capture_output=True, text=True, timeout=60)


def config_of(store: Store, tmp_path: Path, *, more: str = "") -> str:
    url = store.address if isinstance(store.address, str) else f"sqlite:///{store.address}"
    file = tmp_path / "vatio.toml"
    file.write_text(
        f'[storage]\nurl = "{url}"\nspool_folder = "{tmp_path}/spool"\nkeep_samples_days = 100_000\n'
        f'[collectors]\nhost_name = "box"\n{more}'
    )
    return str(file)


@pytest.fixture
def config(store: Store, tmp_path: Path) -> str:
    """Settings of a store with one GPU over 33 hours, sealed but for the end; nobody writes it."""
    store.write(
        Entity(observed_at_ms=START_MS, family="accelerator", key="A", host="box", labels={"model": "=H100"}),
        *(
            AcceleratorSample(
                key="A", observed_at_ms=START_MS + n * 300_000, power_watts=None if n % 5 == 4 else 100.0 + n
            )
            for n in range(SAMPLES)
        ),
    )
    upkeep = Upkeep(store.reader, store.writer, StorageSettings(keep_samples_days=100_000))
    upkeep.seal(START_MS + 30 * HOUR_MS)
    upkeep.account(START_MS + 30 * HOUR_MS)
    return config_of(store, tmp_path)


def one_line(result: subprocess.CompletedProcess[str], code: int) -> str:
    """What was said of trouble: one line on stderr and nothing else."""
    assert result.returncode == code, result.stderr
    assert result.stdout == ""
    assert len(result.stderr.splitlines()) == 1, result.stderr
    return result.stderr


def test_info_as_people_and_as_programs_read_it(config: str):
    shown = run("info", "--config", config)
    assert shown.returncode == 0, shown.stderr
    for words in ("accelerator", "revision", "free disk", "0 batches wait", "accounts for ever", "settles at"):
        assert words in shown.stdout
    answer = json.loads(run("info", "--json", "--config", config).stdout)
    (gpus,) = (fact for fact in answer["facts"] if fact["kind"] == "accelerator")
    assert gpus["rows"] + gpus["in_blocks"] == SAMPLES
    assert gpus["first_at"] == "2025-10-10T00:00:00Z"
    assert answer["growth_bytes_per_day"] > 0
    assert answer["keep_ticks_days"] == 30
    assert answer["schema_revision"].isdigit()
    assert not Path(answer["spool"]["folder"]).exists()


def test_check_says_what_it_finds_and_is_1_then(store: Store, config: str):
    sound = run("check", "--config", config)
    assert (sound.returncode, sound.stdout) == (0, "")
    assert "is sound" in sound.stderr
    table = schema.blocks["accelerator"]
    damage = update(table).where(table.c.span_ms == START_MS).values(power_watts=b"\x01" * 50)
    store.writer.call(lambda connection: connection.execute(damage))
    damaged = run("check", "--config", config)
    assert damaged.returncode == 1
    (line,) = damaged.stdout.splitlines()
    assert line.startswith("accelerator A 2025-10-10T00:00:00Z/2025-10-10T08:00:00Z power_watts: checksum does not")
    assert damaged.stderr == "1 finding\n"


@sqlite
def test_backup_can_be_read_like_the_store_itself(config: str, tmp_path: Path):
    copy = tmp_path / "copy.db"
    made = run("backup", str(copy), "--config", config)
    assert made.returncode == 0, made.stderr
    assert made.stdout.startswith(f"{copy}: ")
    url = f"sqlite:///{copy}"
    assert run("check", "--config", config, VATIO_STORAGE__URL=url).returncode == 0
    assert "replace it with --force" in one_line(run("backup", str(copy), "--config", config), 2)
    assert run("backup", "--force", str(copy), "--config", config).returncode == 0


@pytest.mark.parametrize("address", ["postgresql"], indirect=True)
def test_of_postgresql_pg_dump_makes_backups(config: str, tmp_path: Path):
    assert "pg_dump" in one_line(run("backup", str(tmp_path / "copy.db"), "--config", config), 2)


def test_export_to_a_file_and_to_a_pipe(config: str, tmp_path: Path):
    words = ("--family", "accelerator", "--from", "2025-10-10", "--to", "2025-10-10T01:00Z", "--metrics", "power_watts")
    piped = run("--config", config, "export", *words, "--format", "csv", "--output", "-")
    assert piped.returncode == 0, piped.stderr
    rows = list(csv.DictReader(io.StringIO(piped.stdout)))
    assert [row["power_watts"] for row in rows[:6]] == ["100", "101", "102", "103", "", "105"]
    assert (len(rows), rows[0]["model"], rows[0]["time"]) == (12, "'=H100", "2025-10-10T00:00:00.000Z")
    assert piped.stderr == "standard output: 12 rows\n"
    file = tmp_path / "out.csv"
    assert run("export", *words, "--format", "csv", "--output", str(file), "--config", config).returncode == 0
    assert file.read_text() == piped.stdout
    parquet = [sys.executable, "-m", "storage", "export", *words, "--format", "parquet", "--config", config]
    whole = subprocess.run([*parquet, "--output", "-"], cwd=ROOT, capture_output=True, check=True).stdout
    assert whole[:4] == whole[-4:] == b"PAR1"
    states = run("export", *words[:-2], "--step", "600", "--format", "csv", "--output", str(file), "--config", config)
    assert states.stderr.startswith("left out, since states have no mean: performance_state")


def test_a_reader_that_has_seen_enough_is_no_trouble(config: str):
    words = [
        "--family",
        "accelerator",
        "--from",
        "2025-10-10",
        "--to",
        "2026-10-10",
        "--format",
        "csv",
        "--output",
        "-",
    ]
    command = [sys.executable, "-m", "storage", "export", *words, "--config", config]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert "Traceback" not in process.stderr.read()


def test_compact_and_rebuild_accounts(config: str):
    compacted = run("compact", "--config", config)
    assert compacted.returncode == 0, compacted.stderr
    assert " before, " in compacted.stdout
    rebuilt = run("rebuild-accounts", "--from", "2025-10-10", "--to", "2025-10-11", "--config", config)
    assert rebuilt.returncode == 0, rebuilt.stderr
    assert "24 entity-hours" in rebuilt.stdout
    assert run("check", "--config", config).returncode == 0


@sqlite
def test_beside_a_running_daemon_what_reads_works_and_what_writes_is_refused(store: Store, config: str, tmp_path: Path):
    store.writer.stop()
    file = daemon.settings_file(tmp_path, interval_seconds=0.5)
    with daemon.running(file):
        read = ["info", "--json", "--config", str(file)]
        assert daemon.until(
            lambda: any(f["kind"] == "host" and f["rows"] for f in json.loads(run(*read).stdout)["facts"])
        )
        assert run("check", "--config", str(file)).returncode == 0
        assert run("backup", str(tmp_path / "copy.db"), "--config", str(file)).returncode == 0
        words = ("--family", "accelerator", "--from", "2025-10-10", "--to", "2025-10-11", "--format", "csv")
        assert run("export", *words, "--output", "-", "--config", str(file)).stdout.count("\n") == 289
        for command in ("compact", "rebuild-accounts"):
            said = one_line(run(command, "--config", str(file)), 3)
            assert "another Vatio daemon (process " in said
            assert "does all upkeep by itself" in said


def test_what_ctrl_c_stops_is_said(config: str, tmp_path: Path):
    """A pipe that nobody reads holds the command up until it is told to end."""
    fifo_read, fifo_write = os.pipe()
    words = [
        "--family",
        "accelerator",
        "--from",
        "2025-10-10",
        "--to",
        "2026-10-10",
        "--format",
        "csv",
        "--output",
        "-",
    ]
    command = [sys.executable, "-m", "storage", "export", *words, "--config", config]
    process = subprocess.Popen(command, cwd=ROOT, stdout=fifo_write, stderr=subprocess.PIPE, text=True)
    os.close(fifo_write)
    os.read(fifo_read, 1)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=30)
    os.close(fifo_read)
    assert (process.returncode, said) in [(130, "stopped; what was done stays, and nothing is half done\n"), (0, said)]
    assert "Traceback" not in said


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["info", "--config", "none.toml"], 2, "none.toml: cannot be read"),
        (["info"], 3, "start the collector daemon (make run) and wait for its first tick"),
        (["check"], 3, "no database at"),
        (["compact"], 3, "no database at"),
        (["rebuild-accounts"], 3, "no database at"),
        (["backup", "copy.db"], 3, "no database at"),
        ([], 2, "required: COMMAND; see python -m storage --help"),
        (["frobnicate"], 2, "invalid choice: 'frobnicate'"),
        (["backup"], 2, "required: FILE; see python -m storage backup --help"),
        (["export", "--family", "gpu"], 2, "argument --family: invalid choice: 'gpu' (choose from 'accelerator'"),
        (["export", "--family", "cpu", "--step", "0"], 2, "--step: invalid number of seconds from 1 on value: '0'"),
        (["rebuild-accounts", "--from", "monday"], 2, "--from 'monday': expected a date such as 2026-11-25"),
        (["rebuild-accounts", "--from", "2025-01-02", "--to", "2025-01-02"], 2, "name a later --to"),
        (["distribute"], 2, "distribute is for PostgreSQL with the Citus extension"),
    ],
)
def test_trouble_is_said_on_one_line(tmp_path: Path, words: list[str], code: int, said: str):
    assert said in one_line(run(*words, VATIO_STORAGE__URL=f"sqlite:///{tmp_path}/vatio.db"), code)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("command", [command for command in COMMANDS if command != "distribute"])
def test_what_is_no_database_is_said_on_one_line(tmp_path: Path, command: str):
    file = tmp_path / "vatio.db"
    file.write_bytes(b"not a database at all" * 500)
    words = {
        "backup": [str(tmp_path / "copy.db")],
        "export": ["--family", "cpu", "--from", "2025-01-01", "--to", "2025-01-02", "--format", "csv", "--output", "-"],
    }
    said = one_line(run(command, *words.get(command, []), VATIO_STORAGE__URL=f"sqlite:///{file}"), 3)
    assert "set storage.url to another" in said


def test_a_file_without_our_tables_is_said_on_one_line(tmp_path: Path):
    file = tmp_path / "vatio.db"
    file.touch()
    said = one_line(run("check", VATIO_STORAGE__URL=f"sqlite:///{file}"), 3)
    assert (
        said
        == f"{file}: holds no tables of Vatio: start the collector daemon (make run), or set storage.url to another\n"
    )


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_an_output_that_is_full_is_said_on_one_line(tmp_path: Path, unbuffered: str):
    """Standard output is opened by the test: nothing that runs here knows the name of a device."""
    file = tmp_path / "vatio.db"
    with writing(file, host="box"):
        pass
    window = ["--from", "2025-01-01", "--to", "2025-01-02"]
    words = ["export", "--family", "cpu", *window, "--format", "csv", "--output", "-"]
    env = {**os.environ, "VATIO_STORAGE__URL": f"sqlite:///{file}", "PYTHONUNBUFFERED": unbuffered}
    with Path("/dev/full").open("wb") as full:
        command = [sys.executable, "-m", "storage", *words]
        ended = subprocess.run(command, cwd=ROOT, env=env, stdout=full, stderr=subprocess.PIPE, text=True, timeout=60)
    assert ended.returncode == 3
    assert ended.stderr == "the output cannot be used (No space left on device): make room, or name another place\n"


@pytest.mark.parametrize("command", ["", *COMMANDS])
def test_every_command_explains_itself(command: str, capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit) as ended:
        main([*command.split(), "--help"])
    assert ended.value.code == 0
    shown = capsys.readouterr().out
    assert "--config FILE" in shown
    assert "exit status" in shown


def test_the_command_line_and_the_export_know_the_same_families():
    assert FAMILIES == CHOICES


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("2025-10-10", 1_760_065_200_000),  # midnight in Chile, three hours after UTC's
        ("2025-10-10T01:30", 1_760_065_200_000 + 5_400_000),
        ("2025-10-10 01:30:00.5", 1_760_065_200_000 + 5_400_500),
        ("2025-10-10T00:00Z", START_MS),
        ("2025-10-10T02:00+02:00", START_MS),
    ],
)
def test_times_are_in_the_zone_of_the_site_unless_they_say_theirs(text: str, wanted: int):
    assert instant_ms(text, ZoneInfo("America/Santiago"), "--from") == wanted


@pytest.mark.parametrize("text", ["", "now", "10/10/2025", "2025-13-01", "2025-10-10T25:00"])
def test_what_is_no_time_is_refused(text: str):
    with pytest.raises(ConfigError, match=r"--to .*: expected a date such as"):
        instant_ms(text, ZoneInfo("UTC"), "--to")
