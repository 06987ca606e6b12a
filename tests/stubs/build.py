"""Compiles a stub driver library once per content and keeps it in a private cache folder."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

import pytest


def shared_library(source: Path, name: str, *flags: str) -> Path:
    """The library built from a C file, named ``name`` in a folder of its own; skips the test without a compiler.

    Args:
        source: the C file.
        name: file name and soname, as the loader looks for it.
        flags: further arguments for the compiler, such as ``-DOLD_DRIVER``.
    """
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        pytest.skip("no C compiler (cc or gcc) to build the stub driver library with")
    command = [compiler, "-shared", "-fPIC", "-O1", "-Wall", "-Wextra", "-Werror", f"-Wl,-soname,{name}", *flags]
    digest = hashlib.sha256("\0".join([*command, source.read_text("utf-8")]).encode()).hexdigest()[:16]
    library = _cache() / digest / name
    if not library.exists():
        library.parent.mkdir(exist_ok=True)
        unfinished = library.with_suffix(f".{os.getpid()}")
        subprocess.run([*command, "-o", str(unfinished), str(source), "-lpthread"], check=True)
        unfinished.replace(library)
    return library


def _cache() -> Path:
    folder = Path(tempfile.gettempdir()) / f"vatio-stubs-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    if folder.stat().st_uid != os.getuid():  # what lies there gets loaded: it must be ours
        pytest.skip(f"{folder} belongs to someone else")
    return folder
