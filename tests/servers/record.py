"""Records pages of the real servers as fixtures for the ordinary tests, with the client's own books beside them.

    python -m tests.servers.record [DIRECTORY]

DIRECTORY is the cache of ``install.py``. Run it when a server's version changes; the folder's README says
what the files are.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path

import httpx
from prometheus_client.parser import text_string_to_metric_families

from tests.servers import launch
from tests.servers.client import SHARED_PREFIX, Counted, Request, count, drive, workload
from tests.servers.install import Installed, default_directory
from tests.servers.launch import Server

RECORDED = Path(__file__).parents[1] / "fixtures" / "serving" / "recorded"
PRESSURE = ("--num-gpu-blocks-override", "24")
LOAD = workload(240, seed=1)
SHORT_LOAD = workload(30, seed=2)
LONG_ANSWERS = [Request(f"{SHARED_PREFIX} {number}", 300) for number in range(24)]
QUIET_SECONDS = 1.0  # after the last answer, until every counter has settled


class Recording:
    """One folder of fixtures."""

    def __init__(self, name: str, installed: Installed) -> None:
        self._folder = RECORDED / name
        self._folder.mkdir(parents=True, exist_ok=True)
        self._local = str(installed.directory)
        self._counted: dict[str, Counted] = {}

    def page(self, label: str, page: str) -> None:
        """Keep a page, with nothing of this machine's paths in it."""
        (self._folder / f"{label}.prom").write_text(page.replace(self._local, "/models"), "utf-8", newline="")

    def load(self, server: Server, requests: Sequence[Request], label: str, during: str | None = None) -> None:
        """Send a load; keep the page after it, if wanted one amid it, and what the client counted."""
        with ThreadPoolExecutor(1) as background:
            answers = background.submit(drive, server.url, server.model, requests, concurrency=24)
            if during is not None:
                self.page(during, _busy_page(server, lambda: not answers.done()))
            self._counted[label] = count(answers.result())
        time.sleep(QUIET_SECONDS)
        self.page(label, server.page())

    def answers(self, server: Server, *paths: str) -> None:
        """Keep what the server says of itself elsewhere, and the headers of its pages."""
        about = {}
        for path in ("/metrics", *paths):
            answer = httpx.get(server.url + path, timeout=30, trust_env=False).raise_for_status()
            body = {} if path == "/metrics" else {"body": answer.json()}
            about[path] = {"headers": dict(answer.headers)} | body
        text = json.dumps(about, indent=2).replace(self._local, "/models")
        (self._folder / "about.json").write_text(text + "\n", "utf-8")

    def stream(self, server: Server) -> None:
        """Keep the body of one streamed answer as it came."""
        body = Request("Count from one to ten.", 12).body(server.model)
        answer = httpx.post(f"{server.url}/v1/chat/completions", json=body, timeout=60, trust_env=False)
        (self._folder / "chat.sse").write_bytes(answer.raise_for_status().content)

    def close(self) -> None:
        books = {label: asdict(counted) for label, counted in self._counted.items()}
        (self._folder / "counted.json").write_text(json.dumps(books, indent=2) + "\n", "utf-8")


def _busy_page(server: Server, lasts: Callable[[], bool]) -> str:
    """A page from the middle of the time in which some requests were computed and others had to wait."""
    busy = []
    while lasts():
        page = server.page()
        values = {sample.name: sample.value for f in text_string_to_metric_families(page) for sample in f.samples}
        running = values.get("vllm:num_requests_running", values.get("llamacpp:requests_processing"))
        waiting = values.get("vllm:num_requests_waiting", values.get("llamacpp:requests_deferred"))
        if running and waiting:
            busy.append(page)
        time.sleep(0.1)
    if not busy:
        raise RuntimeError(f"{server.url}: the load was over before anything had to wait")
    return busy[len(busy) // 2]


def record_vllm(installed: Installed, logs: Path) -> None:
    recording = Recording("vllm-0.32.0-cpu", installed)
    with launch.vllm(installed, logs / "vllm.log") as server:
        recording.page("idle", server.page())
        recording.load(server, LOAD, "after", during="midload")
        recording.answers(server, "/version", "/v1/models")
        recording.stream(server)
    with launch.vllm(installed, logs / "vllm.log", port=server.port) as server:
        recording.load(server, SHORT_LOAD, "restarted")
    with launch.vllm(installed, logs / "vllm.log", *PRESSURE) as server:
        recording.load(server, LONG_ANSWERS, "pressure-after", during="pressure")
    recording.close()


def record_llama_server(installed: Installed, logs: Path) -> None:
    recording = Recording("llama-server-b11434", installed)
    with launch.llama_server(installed, logs / "llama-server.log") as server:
        recording.page("idle", server.page())
        recording.load(server, LOAD, "after", during="midload")
        recording.answers(server, "/v1/models", "/props")
        recording.stream(server)
    with launch.llama_server(installed, logs / "llama-server.log", port=server.port) as server:
        recording.load(server, SHORT_LOAD, "restarted")
    recording.close()


def main(arguments: list[str]) -> None:
    installed = Installed(Path(arguments[0]).absolute() if arguments else default_directory())
    with tempfile.TemporaryDirectory() as logs:
        record_llama_server(installed, Path(logs))
        record_vllm(installed, Path(logs))


if __name__ == "__main__":
    main(sys.argv[1:])
