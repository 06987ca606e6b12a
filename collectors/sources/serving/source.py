"""Serving: what the inference servers on this machine and in the settings say about themselves.

Every tick asks the configured servers and the loopback ports that listen, all at once (``fetch``), recognises
the engine by its page (``recognition``), and reports each model's gauges, counters and latencies (``server``). A port
whose ``/metrics`` is no metrics page is asked at the other paths that engines use. Ports where something else answers
are asked less and less often, but at once when another program takes the port.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from urllib.parse import urlsplit

from collectors.base import Availability, now_ms
from collectors.scrape.fetch import Answer, Failure, Fetcher, Request
from collectors.scrape.targets import FileTarget, FileTargets
from collectors.sources.serving.engine import METRICS_PATH
from collectors.sources.serving.listeners import Behind, listening, processes_behind
from collectors.sources.serving.recognition import OTHER_PATHS, engine_of, is_per_minute, recognise, rewritten
from collectors.sources.serving.server import Scrape, Server
from collectors.sources.serving.totals import MINUTE_MS, is_due
from core.errors import CollectorError, NoData
from core.readings import Assignment, Listener, Outcome, Reading, TargetReport
from core.settings import ServerTarget
from core.units import MIB

SHOWN_AFTER_STOP_MS = 600_000
LONGEST_PAUSE_MS = 60_000  # between two looks at a port where something else answers
MAX_GONE = 200  # targets that files named once
PROCESSES_VALID_MS = 300_000  # finding them takes 20 ms

_LOOPBACK = frozenset(("localhost", "127.0.0.1", "::1"))
_STOPPED = "stopped answering: nothing listens on its port"
_FILES = "file_sd"
_NOT_FOUND = 404
_NOT_IMPLEMENTED = 501
_MOST_PER_MINUTE = 6  # of an endpoint that is asked by the minute
_LEAST_SECONDS = 0.5  # for questions, also when pages took all the time


@dataclass(slots=True, eq=False)
class _Endpoint:
    """Where a server is, or may be, and how it fared lately."""

    server: Server
    path: str
    name: str  # on ops/health
    port: int | None  # where it is on this machine
    configured: bool = False
    api_key_env: str | None = None
    accelerators: Sequence[str] = ()
    labels: Mapping[str, str] = field(default_factory=dict)
    answered_at_ms: int | None = None  # last page of an inference server; None: never, or long ago
    sockets: frozenset[int] | None = None
    heard_since_ms: int = 0
    ask_at_ms: int = 0
    asked_at_ms: deque[int] = field(default_factory=lambda: deque(maxlen=_MOST_PER_MINUTE))  # by the minute
    behind: Behind | None = None
    behind_until_ms: int = 0

    @property
    def page_url(self) -> str:
        """Where its page is."""
        return self.server.url + self.path

    def request(self, path: str) -> Request:
        """What to ask for a page."""
        return Request(self.server.url + path, self.api_key_env, partial(rewritten, path))

    def due(self, now_ms: int, heard: Mapping[int, frozenset[int]] | None) -> bool:
        """Whether to ask now: always what is known, and else where somebody listens, the less often the longer."""
        if self.is_per_minute:
            return is_due(now_ms, self.answered_at_ms) and self.may_ask(now_ms)
        if self.configured or self.port is None:
            return True
        if heard is not None and (sockets := heard.get(self.port)) != self.sockets:
            self.sockets, self.heard_since_ms, self.ask_at_ms, self.path = sockets, now_ms, now_ms, METRICS_PATH
        listens = heard is None or self.sockets is not None
        return listens and (self.answered_at_ms is not None or now_ms >= self.ask_at_ms)

    @property
    def is_per_minute(self) -> bool:
        """Whether it tells about single minutes, and counts how often it is asked."""
        return self.server.is_per_minute or is_per_minute(self.path)

    def may_ask(self, now_ms: int) -> bool:
        """Whether its limit allows another question, which then counts."""
        if not self.is_per_minute:
            return True
        asked = self.asked_at_ms
        if len(asked) == _MOST_PER_MINUTE and now_ms - asked[0] < MINUTE_MS:
            return False
        asked.append(now_ms)
        return True

    def answered(self, now_ms: int, scrape: Scrape, duration_seconds: float) -> TargetReport:
        """Note that an inference server answered."""
        self.answered_at_ms = now_ms
        outcome = Outcome.OK if scrape.models else Outcome.NO_DATA
        note = scrape.note or (self.behind.unclear if self.behind is not None else "")
        return TargetReport(target=self.name, outcome=outcome, duration_seconds=duration_seconds, error=note)

    def failed(self, now_ms: int, reason: str, duration_seconds: float = 0.0) -> Iterator[TargetReport]:
        """Report a server that gives no page, unless it was merely found once, and long ago.

        Where something else answers, the pauses grow: a server that is still loading soon is one, an old
        neighbour never will be.
        """
        if not self.configured:
            self.path = METRICS_PATH  # whatever comes next may be another server
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
        file_sd: patterns of files with more of them.
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
        file_sd: Sequence[str] = (),
    ) -> None:
        self._host = host
        self._deadline_seconds = deadline_seconds
        self._fetcher = Fetcher(deadline_seconds=deadline_seconds, max_body_bytes=max_body_bytes)
        configured = (_configured(target, host) for target in targets)
        self._configured = {endpoint.page_url: endpoint for endpoint in configured}
        self._files = FileTargets(file_sd) if file_sd else None
        self._listed: dict[str, _Endpoint] = {}
        self._loopback = [_loopback(port, host) for port in dict.fromkeys(ports)]
        self._watched_since_ms: int | None = None

    def discover(self) -> Availability:
        """Look at every place once. Always ok: a server may be started at any time."""
        endpoints = self._endpoints()
        now = now_ms()
        for endpoint in endpoints:
            endpoint.server.announce_again()
        heard = listening(_ports(endpoints))
        asked = [e for e in endpoints if (e.configured or heard is None or e.port in heard) and e.may_ask(now)]
        engines: list[str] = []
        reasons: list[str] = list(self._files.problems) if self._files else []
        remedy = ""
        for endpoint, answer in self._fetch(asked).items():
            try:
                engines.append(f"{recognise(_taken(answer).body).name} at {endpoint.server.url}")
            except CollectorError as exc:
                hidden = isinstance(answer, Failure) and answer.status == _NOT_IMPLEMENTED
                if endpoint.configured or hidden:
                    reasons.append(f"{endpoint.name}: {exc}")
                if hidden:
                    remedy = "a llama-server shows its metrics when it is started with --metrics"
        if not engines and not any(endpoint.configured for endpoint in endpoints):
            reasons.insert(0, _nothing(endpoints))
            remedy = remedy or "start one there, or name it in [[serving.server]]"
        return Availability(True, "; ".join(reasons), remedy, tuple(engines))

    def collect(self) -> Iterable[Reading]:
        """One scrape of everything that is due.

        Raises:
            NoData: nothing is configured, and nothing was found.
        """
        endpoints = self._endpoints()
        now = now_ms()
        began = time.monotonic()
        if self._watched_since_ms is None:
            self._watched_since_ms = now
        heard = listening(_ports(endpoints))
        answers = self._fetch([endpoint for endpoint in endpoints if endpoint.due(now, heard)])
        readings: list[Reading] = []
        scrapes: list[tuple[_Endpoint, Scrape]] = []
        for endpoint in endpoints:
            answer = answers.get(endpoint)
            if answer is None:
                if endpoint.answered_at_ms is not None and not endpoint.is_per_minute:
                    readings += endpoint.failed(now, _STOPPED)
                continue
            try:
                scrape = endpoint.server.open(_taken(answer), now)
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
        if self._files is not None:
            problems = "; ".join(self._files.problems)
            outcome = Outcome.FAILED if problems else Outcome.OK
            readings.append(TargetReport(target=_FILES, outcome=outcome, duration_seconds=0.0, error=problems))
        if not readings:
            raise NoData(_nothing(endpoints))
        return readings

    def close(self) -> None:
        """Close all connections."""
        self._fetcher.close()

    def _endpoints(self) -> list[_Endpoint]:
        """All places as of now: files may name others than a moment ago, and a port is looked at under one name."""
        named = [*self._configured.values(), *self._named_by_files()]
        taken = {endpoint.port for endpoint in named}
        return [*named, *(endpoint for endpoint in self._loopback if endpoint.port not in taken)]

    def _named_by_files(self) -> list[_Endpoint]:
        """Those they no longer name are remembered: one that comes back must not be counted from zero again."""
        if self._files is None:
            return []
        targets = {target.url + target.metrics_path: target for target in self._files.current()}
        named = {url: self._as_listed(url, target) for url, target in targets.items() if url not in self._configured}
        self._listed |= named
        if len(self._listed) > len(named) + MAX_GONE:
            self._listed = named
            self._watched_since_ms = None  # what is forgotten cannot begin at zero again
        return list(named.values())

    def _as_listed(self, url: str, target: FileTarget) -> _Endpoint:
        endpoint = self._listed.get(url) or _named(target.url, target.metrics_path, self._host)
        endpoint.labels = target.labels
        return endpoint

    def _fetch(self, endpoints: Sequence[_Endpoint]) -> dict[_Endpoint, Answer | Failure]:
        """The answers; where a port that was found shows no metrics page, those at other paths, if one is a page."""
        began = time.monotonic()
        fetched = self._fetcher.fetch_all([endpoint.request(endpoint.path) for endpoint in endpoints])
        answers = dict(zip(endpoints, fetched, strict=True))
        elsewhere = [(e, path) for e in endpoints if _may_be_elsewhere(e, answers[e]) for path in OTHER_PATHS]
        seconds_left = self._deadline_seconds - (time.monotonic() - began)
        others = self._fetcher.fetch_all(
            [endpoint.request(path) for endpoint, path in elsewhere], max(seconds_left, _LEAST_SECONDS)
        )
        for (endpoint, path), answer in zip(elsewhere, others, strict=True):
            if isinstance(answer, Answer) and engine_of(answer.body) is not None:
                endpoint.path, answers[endpoint] = path, answer
        return answers

    def _ask_questions(self, scrapes: Sequence[tuple[_Endpoint, Scrape]], now: int, seconds_left: float) -> None:
        asked = [(endpoint, question) for endpoint, s in scrapes for question in endpoint.server.questions(s, now)]
        requests = [Request(e.server.url + q.path, e.api_key_env, _first_mib) for e, q in asked]
        answers = self._fetcher.fetch_all(requests, max(seconds_left, _LEAST_SECONDS))
        for (endpoint, question), answer in zip(asked, answers, strict=True):
            if isinstance(answer, Answer):
                endpoint.server.learn(question, answer.body)


def _configured(target: ServerTarget, host_name: str) -> _Endpoint:
    endpoint = _named(target.url.rstrip("/"), target.metrics_path, host_name)
    endpoint.api_key_env, endpoint.accelerators, endpoint.labels = (
        target.api_key_env,
        target.accelerators,
        target.labels,
    )
    return endpoint


def _named(url: str, path: str, host_name: str) -> _Endpoint:
    """A server that somebody named."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    local = host in _LOOPBACK or host == host_name
    return _Endpoint(
        server=Server(url, host_name if local else host),
        path=path,
        name=url if path == METRICS_PATH else url + path,
        port=(parts.port or (443 if parts.scheme == "https" else 80)) if local else None,
        configured=True,
    )


def _loopback(port: int, host_name: str) -> _Endpoint:
    url = f"http://127.0.0.1:{port}"
    return _Endpoint(server=Server(url, host_name), path=METRICS_PATH, name=url, port=port)


def _ports(endpoints: Iterable[_Endpoint]) -> frozenset[int]:
    return frozenset(e.port for e in endpoints if e.port is not None and not e.configured)


def _nothing(endpoints: Sequence[_Endpoint]) -> str:
    if any(endpoint.configured for endpoint in endpoints):
        return "nobody is to be asked before the next minute"
    ports = ", ".join(map(str, sorted(_ports(endpoints))))
    return f"no inference server found on 127.0.0.1 ports {ports}" if ports else "no inference server configured"


def _may_be_elsewhere(endpoint: _Endpoint, answer: Answer | Failure) -> bool:
    """Whether a server that nobody configured has no page here, and may have one at another path."""
    if endpoint.configured or endpoint.path != METRICS_PATH:
        return False
    if isinstance(answer, Failure):
        return answer.status in (_NOT_FOUND, _NOT_IMPLEMENTED)
    return answer.body.lstrip().startswith((b"{", b"["))


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
    if keys and (endpoint.behind is not None or endpoint.labels):
        yield Listener(
            deployment_keys=keys,
            host=endpoint.server.host,
            observed_at_ms=now,
            pids=endpoint.behind.pids if endpoint.behind is not None else frozenset(),
            labels=endpoint.labels,
        )
    if endpoint.accelerators:
        for key in keys:
            yield Assignment(
                deployment_key=key,
                target_family="accelerator",
                target_keys=tuple(endpoint.accelerators),
                origin="settings",
                observed_at_ms=now,
            )
