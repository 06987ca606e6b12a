"""The installer's own behaviour, without installing anything."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

import pytest

from tests.servers import install
from tests.servers.install import Installed, InstallError


def test_the_cache_is_where_the_desktop_standard_says(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert install.default_directory() == tmp_path / "vatio" / "servers"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", "/home/somebody")
    assert install.default_directory() == Path("/home/somebody/.cache/vatio/servers")


def test_a_step_is_repeated_only_when_its_recipe_changes_or_it_failed(tmp_path: Path) -> None:
    done: list[str] = []

    def fail(here: Installed) -> None:
        raise InstallError("no")

    def step(recipe: str) -> None:
        install._step(Installed(tmp_path), "part", recipe, lambda _: done.append(recipe))

    step("one")
    step("one")
    step("two")
    assert done == ["one", "two"]
    with pytest.raises(InstallError):
        install._step(Installed(tmp_path), "part", "three", fail)
    step("two")
    assert done == ["one", "two", "two"]


@pytest.mark.parametrize("tool", ["cmake", "gcc", "g++"])
def test_a_missing_tool_is_one_line_with_the_remedy(
    tool: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(install, "_install_vllm", lambda here: None)
    monkeypatch.setattr(shutil, "which", lambda name: None if name == tool else f"/usr/bin/{name}")
    monkeypatch.setattr(os, "nice", lambda by: 0)
    assert install.main([str(tmp_path)]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"install: {tool} not found; install {tool}")


def test_a_command_that_fails_is_one_line_with_its_last_words(tmp_path: Path) -> None:
    log = tmp_path / "part.log"
    with pytest.raises(InstallError) as raised:
        install._run(log, sys.executable, "-c", "print('compiling', flush=True); raise SystemExit('no space left')")
    assert "exit 1: no space left" in str(raised.value)
    assert str(log) in str(raised.value)
    assert "\n" not in str(raised.value)
    assert "compiling" in log.read_text("utf-8")


@pytest.mark.parametrize("arguments", [["--help"], ["one", "two"]])
def test_wrong_arguments_are_answered_with_the_usage(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert install.main(arguments) == 2
    assert "install.py [DIRECTORY]" in capsys.readouterr().err


def test_what_is_missing_is_named(tmp_path: Path) -> None:
    here = Installed(tmp_path)
    assert len(here.missing) == 5
    here.gguf.touch()
    assert str(here.gguf) not in here.missing
