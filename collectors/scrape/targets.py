"""Lists of targets in files: Prometheus' ``file_sd`` format, in JSON, read again whenever a file changes.

A file holds ``[{"targets": ["10.0.0.5:9400"], "labels": {"rack": "a1"}}, ...]``. Of the labels that begin with two
underscores ``__scheme__`` and ``__metrics_path__`` count; the others are instructions for Prometheus and are left
out. A file that is broken, or that somebody is writing right now, leaves its last good list in force and is read
again every time until it is whole; a file that is gone takes its targets with it.
"""

from __future__ import annotations

import glob
import json
import os
import re
import stat
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from core.units import MIB

MAX_FILE_BYTES = 8 * MIB
MAX_TARGETS = 10_000  # in all files together
MAX_TEXT = 1000  # characters of an address, a path, a label's name or value

_ADDRESS = re.compile(r"(?:[\w.\-]+|\[[0-9a-fA-F:.]+\])(?::\d{1,5})?", re.ASCII)
_LABEL = re.compile(r"[a-zA-Z_]\w*", re.ASCII)
_PATH = re.compile(r"/[^\s?#]*")


@dataclass(frozen=True, slots=True)
class FileTarget:
    """One target of a list. ``url`` is its scheme, host and port; ``labels`` are those of its group."""

    url: str
    metrics_path: str
    labels: Mapping[str, str]


class _Broken(Exception):
    """Why a file is not taken, and what to do; quotes nothing of what is in it."""


@dataclass(slots=True)
class _File:
    """What is remembered of one file."""

    version: tuple[int, ...] | None = None  # of the last good list: any other is read, again until it is good
    targets: Sequence[FileTarget] = ()
    problem: str = ""


class FileTargets:
    """The targets of all files that match the patterns.

    Args:
        patterns: paths, in which ``*`` and ``?`` stand for any part of a file's name.
    """

    def __init__(self, patterns: Sequence[str]) -> None:
        self._patterns = tuple(patterns)
        self._files: dict[str, _File] = {}
        self.problems: list[str] = []
        """One line per pattern or file that gives no list, with the remedy; as of the last ``current``."""

    def current(self) -> list[FileTarget]:
        """The targets as of now, each page once: the first file that names it wins."""
        matching = {pattern: sorted(glob.glob(pattern)) for pattern in self._patterns}
        paths = dict.fromkeys(path for found in matching.values() for path in found)
        self.problems = [f"{pattern}: no such file; write one, or correct file_sd" for pattern in _unmatched(matching)]
        self._files = {path: self._files.get(path, _File()) for path in paths}
        targets: dict[tuple[str, str], FileTarget] = {}
        for path, file in self._files.items():
            _refresh(path, file)
            if file.problem:
                self.problems.append(f"{path}: {file.problem}")
            for target in file.targets:
                targets.setdefault((target.url, target.metrics_path), target)
        if len(targets) > MAX_TARGETS:
            self.problems.append(f"more than {MAX_TARGETS} targets in all files: the rest is left out")
        return list(targets.values())[:MAX_TARGETS]


def _unmatched(matching: Mapping[str, Sequence[str]]) -> Iterator[str]:
    return (pattern for pattern, found in matching.items() if not found)


def _refresh(path: str, file: _File) -> None:
    """Read the file if it is another than before."""
    try:
        version = _version(path)
        if version != file.version:
            file.targets = _targets(_content(path))
            file.version = version
        file.problem = ""
    except _Broken as exc:
        file.problem = f"{exc}; until then its last good list holds" if file.targets else str(exc)


def _version(path: str) -> tuple[int, ...]:
    try:
        found = os.stat(path)
    except OSError as exc:
        raise _Broken(f"cannot be read ({exc.strerror}); let the daemon read it") from exc
    if not stat.S_ISREG(found.st_mode):  # opening a pipe would wait for ever
        raise _Broken("is no file; name a JSON file")
    if path.endswith((".yml", ".yaml")):
        raise _Broken("YAML is not read; write the same list as JSON")
    return found.st_mtime_ns, found.st_size, found.st_ino


def _content(path: str) -> Any:  # noqa: ANN401  any JSON
    try:
        with open(path, "rb") as file:
            body = file.read(MAX_FILE_BYTES + 1)
    except OSError as exc:
        raise _Broken(f"cannot be read ({exc.strerror}); let the daemon read it") from exc
    if len(body) > MAX_FILE_BYTES:
        raise _Broken(f"longer than {MAX_FILE_BYTES >> 20} MiB; split it")
    try:
        return json.loads(body)
    except (ValueError, RecursionError) as exc:
        line = f" in line {exc.lineno}" if isinstance(exc, json.JSONDecodeError) else ""
        raise _Broken(f"not valid JSON{line}; correct it, or wait until it is written") from exc


def _targets(content: Any) -> list[FileTarget]:  # noqa: ANN401
    if not isinstance(content, list):
        raise _Broken('not a list of {"targets": [...], "labels": {...}}; correct it')
    return [target for number, group in enumerate(content, 1) for target in _group(group, f"group {number}")]


def _group(group: Any, where: str) -> Iterator[FileTarget]:  # noqa: ANN401
    if not isinstance(group, dict) or not isinstance(group.get("targets"), list):
        raise _Broken(f'{where} is no {{"targets": [...], "labels": {{...}}}}; correct it')
    labels = group.get("labels", {})
    if not isinstance(labels, dict) or not all(map(_is_label, labels.items())):
        raise _Broken(f"{where} has labels that are not names with texts of up to {MAX_TEXT} characters; correct it")
    scheme, path = labels.get("__scheme__", "http"), labels.get("__metrics_path__", "/metrics")
    if scheme not in ("http", "https") or not _PATH.fullmatch(path):
        raise _Broken(f"{where} has a __scheme__ or __metrics_path__ that is not http, https or a path; correct it")
    plain = {name: text for name, text in labels.items() if not name.startswith("__")}
    for address in group["targets"]:
        if not _is_address(address):
            raise _Broken(f"{where} has a target that is not host:port; correct it")
        yield FileTarget(f"{scheme}://{address}", path, plain)


def _is_label(item: tuple[str, object]) -> bool:
    name, text = item
    return bool(_LABEL.fullmatch(name)) and len(name) <= MAX_TEXT and isinstance(text, str) and len(text) <= MAX_TEXT


def _is_address(address: object) -> bool:
    if not isinstance(address, str) or len(address) > MAX_TEXT or not _ADDRESS.fullmatch(address):
        return False
    try:
        return urlsplit(f"//{address}").port != 0
    except ValueError:
        return False
