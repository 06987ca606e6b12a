"""Random courses of what sources say: what is open is what a plain look at the last readings gives.

The model keeps every fact with its instant and looks at all of them again each time.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from hypothesis import given, settings
from hypothesis import strategies as st

from collectors.assignments import FORGET_MS, Assigner
from core.readings import (
    AcceleratorSample,
    Assignment,
    DeploymentSample,
    DeviceProcess,
    DeviceUser,
    Entity,
    Listener,
    Reading,
)

DEVICES, DEPLOYMENTS, HOSTS, PIDS = ("A", "B", "C"), ("d", "e"), ("box", "far"), (1, 2, 3)
FOREIGN_PID = 3
Open = dict[str, tuple[str, str, frozenset[str]]]
"""Deployment to origin, family and keys of what it runs on."""


@dataclass(frozen=True)
class Described:
    device: str
    host: str
    parent: str | None


@dataclass(frozen=True)
class Measured:
    device: str


@dataclass(frozen=True)
class Listed:
    """The processes on a device; by this machine's driver where there is no host."""

    device: str
    host: str
    pids: frozenset[int]


@dataclass(frozen=True)
class Given:
    device: str
    users: tuple[tuple[tuple[str, str], ...], ...]


@dataclass(frozen=True)
class Served:
    deployment: str


@dataclass(frozen=True)
class Listens:
    deployment: str
    host: str
    pids: frozenset[int]
    labels: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Told:
    deployment: str
    family: str
    keys: tuple[str, ...]
    origin: str


@dataclass(frozen=True)
class Heard:
    source: str


Fact = Described | Measured | Listed | Given | Served | Listens | Told | Heard


def readings(fact: Fact) -> list[Reading]:
    match fact:
        case Described(key, host, parent):
            return [Entity(observed_at_ms=0, family="accelerator", key=key, host=host, parent_key=parent)]
        case Measured(key):
            return [AcceleratorSample(key=key, observed_at_ms=0)]
        case Listed(key, host, pids) if pids:
            return [DeviceProcess(key=key, observed_at_ms=0, pid=pid, host=host) for pid in sorted(pids)]
        case Listed(key):
            return [AcceleratorSample(key=key, observed_at_ms=0, processes=0)]
        case Given(key, users):
            return [DeviceUser(key=key, observed_at_ms=0, labels=dict(labels)) for labels in users or ((),)]
        case Served(key):
            return [DeploymentSample(key=key, observed_at_ms=0)]
        case Listens(key, host, pids, labels):
            return [
                Listener(deployment_keys=(key,), host=host, observed_at_ms=0, pids=pids, labels=dict(labels)),
            ]
        case Told(key, family, keys, origin):
            rest = {"target_family": family, "origin": origin}
            return [Assignment(deployment_key=key, target_keys=keys, observed_at_ms=0, **rest)]  # type: ignore[arg-type]
    return []


@dataclass
class Model:
    facts: list[tuple[int, Fact]] = field(default_factory=list)

    def course(self, what: str, key: str, now_ms: int) -> list[tuple[int, Fact]]:
        """The facts about a device or deployment since it was last silent for long, newest first."""
        found: list[tuple[int, Fact]] = []
        after_ms = now_ms
        for at_ms, fact in reversed(self.facts):
            if getattr(fact, what, None) == key:
                if after_ms - at_ms > FORGET_MS:
                    break
                found.append((at_ms, fact))
                after_ms = at_ms
        return found

    def open(self, now_ms: int) -> Open:
        courses = {key: self.course("device", key, now_ms) for key in DEVICES}
        held = {key: list_ for key, course in courses.items() if (list_ := last_list(course, now_ms)) is not None}
        users = {key: list(map(dict, last_users(course, now_ms))) for key, course in courses.items()}
        cpus_alone = self.all_processes_are_known([key for key, course in courses.items() if course], held)
        result: Open = {}
        for key in DEPLOYMENTS:
            course = self.course("deployment", key, now_ms)
            listens = last_listener(course, now_ms)
            links = told(course) | by_labels(listens, users) | by_processes(listens, held)
            if not links and cpus_alone and listens and listens.pids and listens.host == "box":
                links = {("processes", "host", "box")}
            if links:
                origin, family = min(((origin, family) for origin, family, _ in links), key=strength)
                result[key] = origin, family, frozenset(link[2] for link in links if link[:2] == (origin, family))
        return result

    def all_processes_are_known(self, known: Iterable[str], held: dict[str, Listed]) -> bool:
        if not any(isinstance(fact, Heard) for _, fact in self.facts):
            return False
        if any(list_.host != "far" and FOREIGN_PID in list_.pids for list_ in held.values()):
            return False
        described = {fact.device: fact for _, fact in self.facts if isinstance(fact, Described)}
        divided = {described[key].parent for key in known if key in described}
        return all(
            key in held or key in divided or (key in described and described[key].host != "box") for key in known
        )


def strength(kind: tuple[str, str]) -> tuple[int, bool]:
    """The most telling first; accelerators before the host's CPUs."""
    origin, family = kind
    return ("settings", "labels", "processes").index(origin), family == "host"


def last_list(course: list[tuple[int, Fact]], now_ms: int) -> Listed | None:
    """Of a driver what it last said, of an exporter only what it said lately."""
    lists = [(at_ms, fact) for at_ms, fact in course if isinstance(fact, Listed)]
    if not lists or (lists[0][1].host and lists[0][1].pids and now_ms - lists[0][0] > FORGET_MS):
        return None
    return lists[0][1]


def last_users(course: list[tuple[int, Fact]], now_ms: int) -> tuple[tuple[tuple[str, str], ...], ...]:
    lately = [fact.users for at_ms, fact in course if isinstance(fact, Given) and now_ms - at_ms <= FORGET_MS]
    return lately[0] if lately else ()


def last_listener(course: list[tuple[int, Fact]], now_ms: int) -> Listens | None:
    lately = [fact for at_ms, fact in course if isinstance(fact, Listens) and now_ms - at_ms <= FORGET_MS]
    return lately[0] if lately else None


def told(course: list[tuple[int, Fact]]) -> set[tuple[str, str, str]]:
    last = next((fact for _, fact in course if isinstance(fact, Told)), None)
    return {(last.origin, last.family, key) for key in last.keys} if last else set()


def by_labels(listens: Listens | None, users: dict[str, list[dict[str, str]]]) -> set[tuple[str, str, str]]:
    mine = dict(listens.labels) if listens else {}
    same = [
        (key, labels)
        for key, several in users.items()
        for labels in several
        if any(mine.get(name) == labels.get(name) is not None for name in ("pod", "job"))
        and all(mine.get(name, value) == value for name, value in labels.items())
    ]
    namespaces = {labels["namespace"] for _, labels in same if "namespace" in labels}
    return {("labels", "accelerator", key) for key, _ in same} if len(namespaces) < 2 else set()


def by_processes(listens: Listens | None, held: dict[str, Listed]) -> set[tuple[str, str, str]]:
    return {
        ("processes", "accelerator", key)
        for key, list_ in held.items()
        if listens and (list_.host or "box") == listens.host and list_.pids & listens.pids
    }


labels = st.lists(
    st.tuples(st.sampled_from(("pod", "job", "namespace")), st.sampled_from("xy")), max_size=3, unique_by=lambda p: p[0]
).map(tuple)
pids = st.frozensets(st.sampled_from(PIDS), max_size=2)
devices, deployments, hosts = st.sampled_from(DEVICES), st.sampled_from(DEPLOYMENTS), st.sampled_from(HOSTS)
some_targets = st.lists(devices, max_size=2, unique=True).map(lambda keys: tuple(sorted(keys)))
facts: st.SearchStrategy[Fact] = st.one_of(
    st.builds(Described, devices, hosts, st.none() | devices),
    st.builds(Measured, devices),
    st.builds(Listed, devices, st.sampled_from(("", *HOSTS)), pids),
    st.builds(Given, devices, st.lists(labels.filter(bool), max_size=2).map(tuple)),
    st.builds(Served, deployments),
    st.builds(Listens, deployments, hosts, pids, labels),
    st.builds(Told, deployments, st.just("accelerator"), some_targets, st.sampled_from(("settings", "labels"))),
    st.builds(Told, deployments, st.just("host"), st.just(("far",)), st.just("settings")),
    st.just(Heard("nvidia")),
)
pauses_ms = st.sampled_from((0, 1_000, 10_000, FORGET_MS // 2, FORGET_MS - 1, FORGET_MS, FORGET_MS + 1))
courses = st.lists(st.tuples(pauses_ms, facts), min_size=5, max_size=40)


def begun(held: Open, at_ms: int) -> Assigner:
    before = [
        Assignment(
            deployment_key=key,
            target_family=family,  # type: ignore[arg-type]
            target_keys=tuple(keys),
            origin=origin,  # type: ignore[arg-type]
            observed_at_ms=at_ms,
        )
        for key, (origin, family, keys) in held.items()
    ]
    return Assigner("box", awaited=("nvidia",), held=before, pid_exists=lambda pid: pid != FOREIGN_PID)


def follow(assigner: Assigner, held: Open, fact: Fact, at_ms: int) -> set[str]:
    """Let one fact be known; returns which deployments something was said of."""
    if isinstance(fact, Heard):
        assigner.heard(fact.source)
    changes = assigner.observe(readings(fact), at_ms)
    for said in changes:
        assert said.observed_at_ms <= at_ms
        held.pop(said.deployment_key, None)
        if said.target_keys:
            held[said.deployment_key] = said.origin, said.target_family, frozenset(said.target_keys)
    assert len({said.deployment_key for said in changes}) == len(changes)
    return {said.deployment_key for said in changes}


@settings(max_examples=300, deadline=None)
@given(courses)
def test_what_is_open_is_what_was_last_read_and_changes_are_said_once(course: list[tuple[int, Fact]]):
    assigner, model, at_ms = begun({}, 0), Model(), 0
    held: Open = {}
    for pause_ms, fact in course:
        at_ms += pause_ms
        before = dict(held)
        model.facts.append((at_ms, fact))
        changed = follow(assigner, held, fact, at_ms)
        assert held == model.open(at_ms)
        assert changed == {key for key in {**before, **held} if before.get(key) != held.get(key)}


@settings(max_examples=200, deadline=None)
@given(courses, st.integers(0, 10_000_000), courses)
def test_a_daemon_that_begins_again_keeps_what_is_open_until_it_knows(
    first: list[tuple[int, Fact]], away_ms: int, then: list[tuple[int, Fact]]
):
    assigner, at_ms = begun({}, 0), 0
    held: Open = {}
    for pause_ms, fact in first:
        at_ms += pause_ms
        follow(assigner, held, fact, at_ms)
    at_ms += away_ms
    left, began_ms = dict(held), at_ms
    assigner, model = begun(held, at_ms - away_ms), Model()
    for number, (pause_ms, fact) in enumerate(then):
        at_ms += pause_ms if number else 0
        model.facts.append((at_ms, fact))
        follow(assigner, held, fact, at_ms)
        known = model.open(at_ms)
        for key in {**held, **known}:
            assert held.get(key) == known.get(key) or (at_ms < began_ms + FORGET_MS and held[key] == left[key])
    follow(assigner, held, Heard("nvidia"), at_ms := max(at_ms, began_ms + FORGET_MS))
    model.facts.append((at_ms, Heard("nvidia")))
    assert held == model.open(at_ms)
