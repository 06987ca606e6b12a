"""Starts a real inference server with the tiny model on a free loopback port, and stops it again."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import httpx

from tests.servers.install import Installed

VLLM_START_SECONDS = 240  # about 50 on two idle cores
LLAMA_START_SECONDS = 30
LITELLM_START_SECONDS = 90  # about 15
STOP_SECONDS = 20
CONTEXT_TOKENS = 512  # as built by tiny_model.py
SEQUENCES = 8  # what vLLM computes at once; more requests than that wait
SLOTS = 2  # the same for llama-server


@dataclass(frozen=True, slots=True)
class Server:
    """A server that answers."""

    url: str
    port: int
    model: str
    start_seconds: float
    process: subprocess.Popen[bytes]

    def kill(self) -> None:
        """End it amid whatever it does, and what it started, as a machine that is out of memory would."""
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def page(self) -> str:
        """Its metrics as it shows them right now."""
        return (
            httpx.get(f"{self.url}/metrics", timeout=30, trust_env=False, follow_redirects=True).raise_for_status().text
        )


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


@contextmanager
def vllm(installed: Installed, log: Path, *options: str, port: int | None = None) -> Iterator[Server]:
    """vLLM on the CPU; blocks of 32 tokens, so that short prompts can be cached at all."""
    port, name = port or free_port(), "tiny-llama"
    command = [
        *(str(installed.python), "-m", "vllm.entrypoints.openai.api_server"),
        *("--model", str(installed.model), "--served-model-name", name),
        *("--host", "127.0.0.1", "--port", str(port)),
        *("--dtype", "float32", "--enforce-eager", "--block-size", "32"),
        *("--max-model-len", str(CONTEXT_TOKENS), "--max-num-seqs", str(SEQUENCES)),
        *("--enable-prompt-tokens-details", *options),
    ]
    environment = {
        "HF_HUB_OFFLINE": "1",
        "VLLM_CPU_KVCACHE_SPACE": "1",
        "VLLM_NO_USAGE_STATS": "1",
        "DO_NOT_TRACK": "1",
    }
    with _running(command, environment, log, port, name, VLLM_START_SECONDS) as server:
        yield server


@contextmanager
def llama_server(installed: Installed, log: Path, *options: str, port: int | None = None) -> Iterator[Server]:
    """llama-server with metrics switched on, which it needs to be told."""
    port, name = port or free_port(), "tiny.gguf"
    command = [
        *(str(installed.llama_server), "--model", str(installed.gguf), "--alias", name),
        *("--host", "127.0.0.1", "--port", str(port)),
        *("--metrics", "--slots", "--parallel", str(SLOTS), "--ctx-size", str(SLOTS * CONTEXT_TOKENS), *options),
    ]
    with _running(command, {}, log, port, name, LLAMA_START_SECONDS) as server:
        yield server


@contextmanager
def litellm(installed: Installed, log: Path, behind: Server, *, port: int | None = None) -> Iterator[Server]:
    """LiteLLM's proxy in front of a server, under a name of its own for the model; open to everybody on loopback."""
    port, name = port or free_port(), "tiny"
    backend = {"model": f"hosted_vllm/{behind.model}", "api_base": f"{behind.url}/v1", "api_key": "none"}
    config = {
        "model_list": [{"model_name": name, "litellm_params": backend}],
        "litellm_settings": {"callbacks": ["prometheus"], "require_auth_for_metrics_endpoint": False},
        "general_settings": {"dangerously_permit_weak_or_unset_master_key": True},
    }
    file = log.with_suffix(".yaml")
    file.write_text(json.dumps(config), "utf-8")  # JSON is YAML
    command = [str(installed.litellm), "--config", str(file), "--host", "127.0.0.1", "--port", str(port)]
    environment = {"LITELLM_LOCAL_MODEL_COST_MAP": "True"}
    with _running(command, environment, log, port, name, LITELLM_START_SECONDS, "/health/liveliness") as server:
        yield server


@contextmanager
def _running(
    command: list[str],
    environment: Mapping[str, str],
    log: Path,
    port: int,
    model: str,
    patience_seconds: float,
    health_path: str = "/health",
) -> Iterator[Server]:
    began = time.monotonic()
    with log.open("ab") as out:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=out, stderr=out, env=os.environ | environment, process_group=0
        )
    try:
        url = f"http://127.0.0.1:{port}"
        _wait_until_it_answers(process, url + health_path, log, began + patience_seconds)
        yield Server(url, port, model, time.monotonic() - began, process)
    finally:
        _stop(process)


def _wait_until_it_answers(process: subprocess.Popen[bytes], url: str, log: Path, until: float) -> None:
    while time.monotonic() < until:
        if process.poll() is not None:
            raise RuntimeError(f"the server ended with {process.returncode}: {_last_line(log)} (all of it in {log})")
        with suppress(httpx.TransportError):
            if httpx.get(url, timeout=5, trust_env=False).is_success:
                return
        time.sleep(0.25)
    raise RuntimeError(f"the server did not answer in time: {_last_line(log)} (all of it in {log})")


def _last_line(log: Path) -> str:
    lines = log.read_text("utf-8", errors="replace").strip().splitlines()
    return lines[-1] if lines else "it said nothing"


def _stop(process: subprocess.Popen[bytes]) -> None:
    """End the server and what it started: vLLM's engine is a process of its own in the same group."""
    process.terminate()
    with suppress(subprocess.TimeoutExpired):
        process.wait(STOP_SECONDS)
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
