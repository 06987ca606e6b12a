from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from collectors.scrape import targets as module
from collectors.scrape.targets import FileTarget, FileTargets


def write(path: Path, content: object) -> None:
    """As good writers do: another file in its place."""
    new = path.with_suffix(".new")
    new.write_text(content if isinstance(content, str) else json.dumps(content))
    new.rename(path)


def group(*targets: str, **labels: str) -> dict[str, object]:
    return {"targets": list(targets), "labels": labels}


def urls(files: FileTargets) -> list[str]:
    return [target.url + target.metrics_path for target in files.current()]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "gpus.json"


@pytest.fixture
def files(tmp_path: Path) -> FileTargets:
    return FileTargets([str(tmp_path / "*.json")])


def test_a_list_is_read(path: Path, files: FileTargets):
    write(path, [group("a:9400", "[fd00::1]:9400", "b", rack="a1", host="node-6"), {"targets": ["c:1"]}])
    assert files.current() == [
        FileTarget("http://a:9400", "/metrics", {"rack": "a1", "host": "node-6"}),
        FileTarget("http://[fd00::1]:9400", "/metrics", {"rack": "a1", "host": "node-6"}),
        FileTarget("http://b", "/metrics", {"rack": "a1", "host": "node-6"}),
        FileTarget("http://c:1", "/metrics", {}),
    ]
    assert files.problems == []


def test_scheme_and_path_count_and_other_instructions_are_left_out(path: Path, files: FileTargets):
    labels = {"__scheme__": "https", "__metrics_path__": "/m", "__param_x": "1", "__address__": "z:1", "job": "j"}
    write(path, [{"targets": ["a:1"], "labels": labels}])
    assert files.current() == [FileTarget("https://a:1", "/m", {"job": "j"})]


def test_a_changed_file_is_read_again_and_an_unchanged_one_is_not(path: Path, files: FileTargets, monkeypatch):
    write(path, [group("a:1")])
    assert urls(files) == ["http://a:1/metrics"]
    write(path, [group("b:1")])
    assert urls(files) == ["http://b:1/metrics"]
    monkeypatch.setattr(module, "_content", lambda path: pytest.fail("read again"))
    assert urls(files) == ["http://b:1/metrics"]


def test_a_half_written_file_keeps_its_last_good_list_until_it_is_whole(path: Path, files: FileTargets):
    whole = json.dumps([group("a:1"), group("b:1")])
    write(path, whole)
    assert len(files.current()) == 2
    longer = json.dumps([group("a:1"), group("b:1"), group("c:1")])
    for end in (0, 1, 10, len(longer) - 1):
        path.write_text(longer[:end])
        assert len(files.current()) == 2
        assert len(files.problems) == 1
        assert files.problems[0].startswith(f"{path}: not valid JSON")
        assert files.problems[0].endswith("until then its last good list holds")
    broken = path.stat()
    path.write_text(longer)
    os.utime(path, ns=(broken.st_atime_ns, broken.st_mtime_ns))
    assert len(files.current()) == 3
    assert files.problems == []


def test_a_broken_file_is_read_every_time(path: Path, files: FileTargets):
    """Completed within one tick of the file system's clock, in the same length, it looks like the same file."""
    path.write_text('[{"targets": ["a:1"]} ')
    before = path.stat()
    assert files.current() == []
    path.write_text('[{"targets": ["a:1"]}]')
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert urls(files) == ["http://a:1/metrics"]


def test_a_vanished_file_takes_its_targets_with_it(tmp_path: Path, path: Path, files: FileTargets):
    other = tmp_path / "more.json"
    write(path, [group("a:1")])
    write(other, [group("b:1")])
    assert len(files.current()) == 2
    path.unlink()
    assert urls(files) == ["http://b:1/metrics"]
    other.unlink()
    assert files.current() == []
    assert files.problems == [f"{tmp_path}/*.json: no such file; write one, or correct file_sd"]
    write(path, [group("a:1")])
    assert urls(files) == ["http://a:1/metrics"]


def test_one_broken_file_costs_no_other(tmp_path: Path, path: Path, files: FileTargets):
    write(path, [group("a:1")])
    (tmp_path / "bad.json").write_bytes(b"\xff\xfe[")
    assert urls(files) == ["http://a:1/metrics"]
    assert len(files.problems) == 1


def test_a_page_is_named_once(tmp_path: Path, path: Path):
    write(path, [group("a:1", "a:1", rack="1"), group("a:1", rack="2")])
    write(tmp_path / "more.json", [group("a:1", rack="3"), group("a:1", __metrics_path__="/other")])
    files = FileTargets([str(path), str(tmp_path / "*.json")])
    assert files.current() == [
        FileTarget("http://a:1", "/metrics", {"rack": "1"}),
        FileTarget("http://a:1", "/other", {}),
    ]


@pytest.mark.parametrize(
    "content",
    [
        "",
        "null",
        "{}",
        '"a:1"',
        '["a:1"]',
        '[{"labels": {}}]',
        '[{"targets": "a:1"}]',
        '[{"targets": ["a:1"], "labels": ["x"]}]',
        '[{"targets": ["a:1"], "labels": {"x": 1}}]',
        '[{"targets": ["a:1"], "labels": {"x-y": "1"}}]',
        '[{"targets": ["a:1"], "labels": {"__scheme__": "file"}}]',
        '[{"targets": ["a:1"], "labels": {"__metrics_path__": "no-slash"}}]',
        '[{"targets": ["a:1"], "labels": {"__metrics_path__": "/a b"}}]',
        *(
            f'[{{"targets": [{json.dumps(bad)}]}}]'
            for bad in (
                1,
                None,
                "",
                "a:0",
                "a:65536",
                "a:b",
                "user:secret@a:1",
                "a:1/path",
                "a:1?x=1",
                "a b",
                "a\r\nHost: x",
                "http://a:1",
                "\x00",
                "ä:1",
                "[::1",
                "x" * 2000,
            )
        ),
        "[" * 100_000,
        "1" * 10_000,
    ],
)
def test_what_is_no_list_of_targets_is_a_problem_and_quotes_nothing(content: str, path: Path, files: FileTargets):
    write(path, content)
    assert files.current() == []
    (problem,) = files.problems
    assert problem.startswith(f"{path}: ")
    assert len(problem) < len(str(path)) + 200
    assert "secret" not in problem


def test_yaml_is_not_read(tmp_path: Path):
    for name in ("a.yml", "a.yaml"):
        (tmp_path / name).write_text("- targets: [a:1]\n")
        files = FileTargets([str(tmp_path / name)])
        assert files.current() == []
        assert files.problems == [f"{tmp_path / name}: YAML is not read; write the same list as JSON"]


def test_limits(path: Path, files: FileTargets, monkeypatch):
    write(path, [group(*(f"h{number}:1" for number in range(module.MAX_TARGETS + 5)))])
    assert len(files.current()) == module.MAX_TARGETS
    assert files.problems == [f"more than {module.MAX_TARGETS} targets in all files: the rest is left out"]
    monkeypatch.setattr(module, "MAX_FILE_BYTES", 1 << 20)
    write(path, "[" + " " * (1 << 20) + "]")
    files.current()
    assert "longer than 1 MiB" in files.problems[0]


def test_a_pipe_does_not_hold_everything_up(tmp_path: Path, files: FileTargets):
    os.mkfifo(tmp_path / "pipe.json")
    (tmp_path / "folder.json").mkdir()
    assert files.current() == []
    assert all(problem.endswith("is no file; name a JSON file") for problem in files.problems)
    assert len(files.problems) == 2


def test_a_file_that_cannot_be_read(path: Path, files: FileTargets):
    path.symlink_to("nowhere")
    assert files.current() == []
    assert files.problems == [f"{path}: cannot be read (No such file or directory); let the daemon read it"]
