"""Serving: what the inference servers on this machine and in the settings say about themselves.

Every tick asks the configured servers and the loopback ports that listen, all at once (``fetch``), recognises
the engine by its page, and reports each model's gauges, counters and latencies (``server``). Ports where
something else answers are asked less and less often, but at once when another program takes the port.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

from collectors.base import Availability, now_ms
from collectors.scrape.exposition import PageReader, Selector
from collectors.scrape.fetch import Answer, Failure, Fetcher, Request
from collectors.sources.serving import ENGINES
from collectors.sources.serving.listeners import Behind, listening, processes_behind
from collectors.sources.serving.server import Scrape, Server, recognise
from core.errors import CollectorError, NoData
from core.readings import Assignment, Listener, Outcome, Reading, TargetReport
from core.settings import ServerTarget
from core.units import MIB

METRICS_PATH = "/metrics"
SHOWN_AFTER_STOP_MS = 600_000
LONGEST_PAUSE_MS = 60_000  # between two looks at a port where something else answers
PROCESSES_VALID_MS = 300_000  # finding them takes 20 ms

_LOOPBACK = frozenset(("localhost", "127.0.0.1", "::1"))
_STOPPED = "stopped answering: nothing listens on its port"
_NOT_IMPLEMENTED = 501
_LEAST_SECONDS = 0.5  # for questions, also when pages took all the time


@dataclass(slots=True)
class _Endpoint:
    """Where a server is, or may be, and how it fared lately."""

    server: Server
    page_url: str
    name: str  # on ops/health
    port: int | None  # where it is on this machine
    configured: bool = False
    api_key_env: str | None = None
    accelerators: Sequence[str] = ()
    answered_at_ms: int | None = None  # last page of an inference server; None: never, or long ago
    sockets: frozenset[int] | None = None
    heard_since_ms: int = 0
    ask_at_ms: int = 0
    behind: Behind | None = None
    behind_until_ms: int = 0

    def due(self, now_ms: int, heard: Mapping[int, frozenset[int]] | None) -> bool:
        """Whether to ask now: always what is known, and else where somebody listens, the less often the longer."""
        if self.configured or self.port is None:
            return True
        if heard is not None and (sockets := heard.get(self.port)) != self.sockets:
            self.sockets, self.heard_since_ms, self.ask_at_ms = sockets, now_ms, now_ms
        listens = heard is None or self.sockets is not None
        return listens and (self.answered_at_ms is not None or now_ms >= self.ask_at_ms)

    def answered(self, now_ms: int, scrape: Scrape, duration_seconds: float) -> TargetReport:
        """Note that an inference server answered."""
        self.answered_at_ms = now_ms
        outcome = Outcome.OK if scrape.models else Outcome.NO_DATA
        return TargetReport(target=self.name, outcome=outcome, duration_seconds=duration_seconds)

    def failed(self, now_ms: int, reason: str, duration_seconds: float = 0.0) -> Iterator[TargetReport]:
        """Report a server that gives no page, unless it was merely found once, and long ago.

        Where something else answers, the pauses grow: a server that is still loading soon is one, an old
        neighbour never will be.
        """
        if self.answered_at_ms is not None and now_ms - self.answered_at_ms > SHOWN_AFTER_STOP_MS:
            self.answered_at_ms = None
        if self.configured or self.answered_at_ms is not None:
            yield TargetReport(
                target=self.name, outcome=Outcome.FAILED, duration_seconds=duration_seconds, error=reason
            )
        else:
            self.ask_at_ms = now_ms + min(LONGEST_PAUSE_MS, now_ms - self.heard_since_ms)


class ServingSource:
    """Inference servers: those that are configured, and those that listen on this machine.

    Args:
        host: name of this machine.
        ports: where to look on loopback for servers that nobody configured; empty to look nowhere.
        targets: the configured ones.
        max_body_bytes: of a metrics page.
        deadline_seconds: for each page as a whole.
    """

    name = "serving"

    def __init__(
        self,
        host: str,
        *,
        ports: Sequence[int],
        targets: Sequence[ServerTarget],
        max_body_bytes: int,
        deadline_seconds: float,
    ) -> None:
        self._deadline_seconds = deadline_seconds
        self._fetcher = Fetcher(deadline_seconds=deadline_seconds, max_body_bytes=max_body_bytes)
        self._select = Selector({name for engine in ENGINES for name in engine.series_names()})
        configured = {endpoint.page_url: endpoint for endpoint in (_configured(target, host) for target in targets)}
        taken = {endpoint.port for endpoint in configured.values()}
        self._endpoints = [
            *configured.values(),
            *(_loopback(port, host) for port in dict.fromkeys(ports) if port not in taken),
        ]
        self._watched_since_ms: int | None = None

    def discover(self) -> Availability:
        """Look at every place once. Always ok: a server may be started at any time."""
        for endpoint in self._endpoints:
            endpoint.server.announce_again()
        heard = listening(self._ports())
        asked = [e for e in self._endpoints if e.configured or heard is None or e.port in heard]
        engines: list[str] = []
        reasons: list[str] = []
        remedy = ""
        for endpoint, answer in zip(asked, self._fetch(asked), strict=True):
            try:
                engines.append(f"{recognise(_taken(answer).body, PageReader())[1].name} at {endpoint.server.url}")
            except CollectorError as exc:
                hidden = isinstance(answer, Failure) and answer.status == _NOT_IMPLEMENTED
                if endpoint.configured or hidden:
                    reasons.append(f"{endpoint.name}: {exc}")
                if hidden:
                    remedy = "a llama-server shows its metrics when it is started with --metrics"
        if not engines and not any(endpoint.configured for endpoint in self._endpoints):
            reasons.insert(0, self._nothing())
            remedy = remedy or "start one there, or name it in [[serving.server]]"
        return Availability(True, "; ".join(reasons), remedy, tuple(engines))

    def collect(self) -> Iterable[Reading]:
        """One scrape of everything that is due.

        Raises:
            NoData: nothing is configured, and nothing was found.
        """
        now = now_ms()
        began = time.monotonic()
        if self._watched_since_ms is None:
            self._watched_since_ms = now
        heard = listening(self._ports())
        asked = [endpoint for endpoint in self._endpoints if endpoint.due(now, heard)]
        answers = dict(zip((e.page_url for e in asked), self._fetch(asked), strict=True))
        readings: list[Reading] = []
        scrapes: list[tuple[_Endpoint, Scrape]] = []
        for endpoint in self._endpoints:
            answer = answers.get(endpoint.page_url)
            if answer is None:
                if endpoint.answered_at_ms is not None:
                    readings += endpoint.failed(now, _STOPPED)
                continue
            try:
                scrape = endpoint.server.open(_taken(answer))
            except CollectorError as exc:
                readings += endpoint.failed(now, str(exc), answer.duration_seconds)
            else:
                scrapes.append((endpoint, scrape))
                readings.append(endpoint.answered(now, scrape, answer.duration_seconds))
        self._ask_questions(scrapes, now, self._deadline_seconds - (time.monotonic() - began))
        _look_behind(scrapes, now)
        for endpoint, scrape in scrapes:
            readings += endpoint.server.readings(
                scrape, now, watched_since_ms=self._watched_since_ms, behind=endpoint.behind
            )
            readings += _users(endpoint, scrape, now)
        if not readings:
            raise NoData(self._nothing())
        return readings

    def close(self) -> None:
        """Close all connections."""
        self._fetcher.close()

    def _nothing(self) -> str:
        ports = ", ".join(map(str, sorted(self._ports())))
        return f"no inference server found on 127.0.0.1 ports {ports}" if ports else "no inference server configured"

    def _ports(self) -> frozenset[int]:
        return frozenset(e.port for e in self._endpoints if e.port is not None and not e.configured)

    def _fetch(self, endpoints: Sequence[_Endpoint]) -> list[Answer | Failure]:
        return self._fetcher.fetch_all([Request(e.page_url, e.api_key_env, self._select) for e in endpoints])

    def _ask_questions(self, scrapes: Sequence[tuple[_Endpoint, Scrape]], now: int, seconds_left: float) -> None:
        asked = [(endpoint, question) for endpoint, s in scrapes for question in endpoint.server.questions(s, now)]
        requests = [Request(e.server.url + q.path, e.api_key_env, _first_mib) for e, q in asked]
        answers = self._fetcher.fetch_all(requests, max(seconds_left, _LEAST_SECONDS))
        for (endpoint, question), answer in zip(asked, answers, strict=True):
            if isinstance(answer, Answer):
                endpoint.server.learn(question, answer.body)


def _configured(target: ServerTarget, host_name: str) -> _Endpoint:
    url = target.url.rstrip("/")
    parts = urlsplit(url)
    host = parts.hostname or ""
    local = host in _LOOPBACK or host == host_name
    return _Endpoint(
        server=Server(url, host_name if local else host),
        page_url=url + target.metrics_path,
        name=url if target.metrics_path == METRICS_PATH else url + target.metrics_path,
        port=(parts.port or (443 if parts.scheme == "https" else 80)) if local else None,
        configured=True,
        api_key_env=target.api_key_env,
        accelerators=target.accelerators,
    )


def _loopback(port: int, host_name: str) -> _Endpoint:
    url = f"http://127.0.0.1:{port}"
    return _Endpoint(server=Server(url, host_name), page_url=url + METRICS_PATH, name=url, port=port)


def _taken(answer: Answer | Failure) -> Answer:
    if isinstance(answer, Failure):
        raise CollectorError(answer.reason)
    return answer


def _first_mib(body: bytes) -> bytes:
    return body[:MIB]


def _look_behind(scrapes: Sequence[tuple[_Endpoint, Scrape]], now: int) -> None:
    """Find out which processes serve the local ports, when they may have changed and now and then."""
    local = {endpoint.port: endpoint for endpoint, _ in scrapes if endpoint.port is not None}
    if any(
        e.port is not None and (now >= e.behind_until_ms or e.server.may_have_changed(scrape)) for e, scrape in scrapes
    ):
        found = processes_behind(local.keys())
        for port, endpoint in local.items():
            endpoint.behind, endpoint.behind_until_ms = found.get(port), now + PROCESSES_VALID_MS


def _users(endpoint: _Endpoint, scrape: Scrape, now: int) -> Iterable[Reading]:
    """What ties the deployments of a server to devices."""
    keys = endpoint.server.keys(scrape)
    if endpoint.behind is not None and keys:
        yield Listener(deployment_keys=keys, host=endpoint.server.host, observed_at_ms=now, pids=endpoint.behind.pids)
    if endpoint.accelerators:
        for key in keys:
            yield Assignment(
                deployment_key=key,
                target_family="accelerator",
                target_keys=tuple(endpoint.accelerators),
                origin="settings",
                observed_at_ms=now,
            )
