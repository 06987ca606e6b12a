"""The command line as people type it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from core.errors import ConfigError
from reports.weekly import FORMATS, week_of
from tests.analytics.weeks import MONDAY_MS, settings
from tests.conftest import Store

ROOT = Path(__file__).parents[2]


def run(*given: str, **env: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "reports", *given]
    return subprocess.run(command, cwd=ROOT, env={**os.environ, **env}, capture_output=True, text=True, timeout=110)


def one_line(result: subprocess.CompletedProcess[str], code: int) -> str:
    """What was said of trouble: one line on stderr and nothing else."""
    assert (result.returncode, result.stdout) == (code, ""), result.stderr
    assert len(result.stderr.splitlines()) == 1, result.stderr
    return result.stderr


def test_all_formats_of_a_week(stores: Callable[[str], Store], tmp_path: Path):
    config = tmp_path / "vatio.toml"
    config.write_text(f'simulated = true\n[storage]\nurl = "sqlite:///{stores("whole").path}"\n')
    folder = tmp_path / "new" / "folder"
    result = run("weekly", "--week", "2026-W40", "--output", str(folder), "--config", str(config), "--language", "es")
    assert result.returncode == 0, result.stderr
    files = [folder / f"vatio-simulated-2026-W40.{name}" for name in FORMATS]
    assert result.stdout.splitlines() == list(map(str, files))
    assert sorted(folder.iterdir()) == sorted(files)
    assert all(file.stat().st_size for file in files)


@pytest.mark.parametrize(
    ("given", "code", "said"),
    [
        (["--week", "2026-W60"], 2, "2026-W46"),
        (["--week", "last"], 2, "2026-W46"),
        (["--week", "9998-W10"], 2, "begins on"),
        (["--format", "json,odt"], 2, "json"),
        (["--language", "xx"], 2, "es"),
        (["--language", "../en"], 2, "es"),
        (["--config", "/does/not/exist"], 2, "cannot be read"),
        (["--nonsense"], 2, "--help"),
        ([], 3, "no database"),
    ],
)
def test_trouble_is_one_line(tmp_path: Path, given: list[str], code: int, said: str):
    url = f"sqlite:///{tmp_path / 'none.db'}"
    result = run("weekly", "--output", str(tmp_path), *given, VATIO_STORAGE__URL=url)
    assert said in one_line(result, code)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_written_is_one_line(stores: Callable[[str], Store], tmp_path: Path):
    (tmp_path / "file").write_text("")
    url = f"sqlite:///{stores('nothing').path}"
    result = run("weekly", "--format", "json", "--output", str(tmp_path / "file"), VATIO_STORAGE__URL=url)
    assert "--output" in one_line(result, 3)


def test_without_a_week_it_is_the_last_whole_one():
    assert week_of(None, settings(), MONDAY_MS) == (2026, 39)
    assert week_of(None, settings(), MONDAY_MS - 1) == (2026, 38)
    assert week_of("2026-W40", settings(), MONDAY_MS + 7_200_000) == (2026, 40)
    with pytest.raises(ConfigError):
        week_of("2026-W40", settings(), MONDAY_MS)
