"""Fifty live pages open at once, without fifty browsers: each session speaks Streamlit's own protocol.

A browser opens a WebSocket, asks for a run of the script, and is told by ``auto_rerun`` which fragments to ask for
again and how often each. So does a session here. A refresh takes from that request until ``script_finished``, with
every message in between received; a browser would then draw. A refresh that takes longer than its pace costs the next
one, as it does in a browser, and is counted as late.
"""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import cycle, islice

import psutil
from rich.table import Table
from streamlit.proto.BackMsg_pb2 import BackMsg
from streamlit.proto.Common_pb2 import StringArray
from streamlit.proto.Element_pb2 import Element
from streamlit.proto.ForwardMsg_pb2 import ForwardMsg
from streamlit.proto.WidgetStates_pb2 import WidgetState, WidgetStates
from websockets.asyncio.client import ClientConnection, connect
from websockets.typing import Subprotocol

from benchmarks.pages import serving
from benchmarks.processes import anonymous_mib, cpu_seconds, memory_mib
from benchmarks.scaled import Scaled
from tests.e2e.dashboard import PAGES

SESSIONS = 50
RANGES = ("1h", "6h", "24h")
ARRIVING_SECONDS = 60.0  # in which all of them come, one after the other
LOOK_SECONDS = 15.0
_DONE = (ForwardMsg.FINISHED_SUCCESSFULLY, ForwardMsg.FINISHED_FRAGMENT_RUN_SUCCESSFULLY)


@dataclass(frozen=True, slots=True)
class Refresh:
    """One refresh of a page: seconds from the request to its end, and whether that was over its pace."""

    page: str
    seconds: float
    late: bool
    failed: bool


@dataclass(frozen=True, slots=True)
class Memory:
    """Of the server: without mapped files, and proportional in all (MiB)."""

    anonymous_mib: float
    all_mib: float


@dataclass(slots=True)
class Watched:
    """What was seen of a server with many sessions."""

    sessions: int
    seconds: float
    cpu_seconds: float = 0.0
    refreshes: list[Refresh] = field(default_factory=list)
    memory: list[Memory] = field(default_factory=list)


@dataclass(slots=True)
class _Session:
    """What one browser window knows of its page."""

    socket: ClientConnection
    page: str
    asked: BackMsg
    paces_seconds: dict[str, float] = field(default_factory=dict)  # by fragment
    widgets: dict[str, WidgetState] = field(default_factory=dict)

    async def run(self, fragment: str = "") -> bool:
        """Ask for a run, of all or of a fragment, and wait for its end; whether an exception stood on the page."""
        failed, again = False, self.asked.rerun_script
        again.fragment_id, again.is_auto_rerun = fragment, bool(fragment)
        again.widget_states.CopyFrom(WidgetStates(widgets=self.widgets.values()))
        await self.socket.send(self.asked.SerializeToString())
        while True:
            message = ForwardMsg.FromString(_bytes(await self.socket.recv()))
            kind = message.WhichOneof("type")
            if kind == "new_session":
                again.page_script_hash, again.page_name = message.new_session.page_script_hash, ""
            elif kind == "page_info_changed":
                again.query_string = message.page_info_changed.query_string
            elif kind == "auto_rerun":
                self.paces_seconds[message.auto_rerun.fragment_id] = message.auto_rerun.interval
            elif kind == "delta":
                failed |= message.delta.new_element.WhichOneof("type") == "exception"
                if (state := _untouched(message.delta.new_element)) is not None:
                    self.widgets[state.id] = state
            elif kind == "script_finished" and message.script_finished in _DONE:
                return failed


def measured(scaled: Scaled, minutes: float, sessions: int = SESSIONS) -> Watched:
    """Open so many sessions on all pages and several ranges, and watch them and the server."""
    with serving(scaled.config) as (url, server):
        return asyncio.run(_watched(url.removeprefix("http://"), server, minutes * 60, sessions))


async def _watched(place: str, server: psutil.Process, seconds: float, sessions: int) -> Watched:
    found = Watched(sessions, seconds)
    begin = time.monotonic() + ARRIVING_SECONDS
    asked = [(page, window) for window in RANGES for page in PAGES]
    async with asyncio.TaskGroup() as group:
        for number, (page, window) in enumerate(islice(cycle(asked), sessions)):
            comes = begin - ARRIVING_SECONDS * (1 - number / sessions)
            group.create_task(_stay(place, page, window, comes, begin, found))
        await _sleep_until(begin)
        used = cpu_seconds(server)
        while time.monotonic() < begin + seconds:
            found.memory.append(Memory(anonymous_mib(server), memory_mib(server)))
            await asyncio.sleep(LOOK_SECONDS)
        found.cpu_seconds = cpu_seconds(server) - used
    return found


async def _stay(place: str, page: str, window: str, comes: float, begin: float, found: Watched) -> None:
    """One session: its refreshes count from when all have come."""
    await _sleep_until(comes)
    asked = BackMsg()
    asked.rerun_script.query_string = f"range={window}"
    asked.rerun_script.page_name = page
    async with connect(
        f"ws://{place}/_stcore/stream", subprotocols=[Subprotocol("streamlit")], max_size=None
    ) as socket:
        session = _Session(socket, page, asked)
        await session.run()
        end = begin + found.seconds
        due = {fragment: time.monotonic() + pace for fragment, pace in session.paces_seconds.items()}
        while due and (at := min(due.values())) < end:
            await _sleep_until(at)
            fragment = min(due, key=lambda one: due[one])
            pace, asked_at = session.paces_seconds[fragment], time.monotonic()
            failed = await session.run(fragment)
            took = time.monotonic() - asked_at
            if asked_at >= begin:
                found.refreshes.append(Refresh(page, took, took > pace, failed))
            due[fragment] = at + pace * (1 + took // pace)
        await _sleep_until(end)  # a page that does not refresh is open all the same


def _untouched(element: Element) -> WidgetState | None:
    """What a browser says of a widget that nobody has touched, of the kinds that pages choose by."""
    match element.WhichOneof("type"):
        case "selectbox":
            box = element.selectbox
            return WidgetState(id=box.id, string_value=box.raw_value if box.set_value else box.options[box.default])
        case "button_group":
            group = element.button_group
            chosen = group.raw_values if group.set_value else [group.options[one].content for one in group.default]
            return WidgetState(id=group.id, string_array_value=StringArray(data=chosen))
        case "checkbox":
            switch = element.checkbox
            return WidgetState(id=switch.id, bool_value=switch.value if switch.set_value else switch.default)
        case "number_input":
            number = element.number_input
            return WidgetState(id=number.id, double_value=number.value if number.set_value else number.default)
        case _:
            return None


async def _sleep_until(at: float) -> None:
    await asyncio.sleep(max(at - time.monotonic(), 0))


def _bytes(message: str | bytes) -> bytes:
    if isinstance(message, str):
        raise TypeError("Streamlit sends bytes")
    return message


def table(found: Watched, scaled: Scaled) -> Table:
    """What was seen, by page and in all."""
    out = Table(
        "page",
        "refreshes",
        "p50, s",
        "p95, s",
        "worst, s",
        "late",
        "failed",
        title=f"{found.sessions} live sessions for {found.seconds / 60:g} min on {scaled.accelerators:,} accelerators",
        caption=_of_the_server(found),
    )
    for page in dict.fromkeys(one.page for one in found.refreshes):
        out.add_row(page or "overview", *_cells(one for one in found.refreshes if one.page == page))
    out.add_section()
    out.add_row("all", *_cells(found.refreshes))
    return out


def _cells(refreshes: Iterable[Refresh]) -> list[str]:
    some = list(refreshes)
    seconds = [one.seconds for one in some]
    points = statistics.quantiles(seconds, n=20, method="inclusive") if len(seconds) > 1 else []
    cells = [str(len(some)), *(f"{points[point]:.2f}" if points else "" for point in (9, 18))]
    return [*cells, f"{max(seconds, default=0.0):.2f}", *(str(sum(flags)) for flags in _flags(some))]


def _flags(refreshes: list[Refresh]) -> tuple[list[bool], list[bool]]:
    return [one.late for one in refreshes], [one.failed for one in refreshes]


def _of_the_server(found: Watched) -> str:
    """CPU, and memory when all had come, after each quarter of the time, and at its most."""
    looks = found.memory
    own, every = (
        " / ".join(f"{memory[(len(memory) - 1) * quarter // 4]:.0f}" for quarter in range(5))
        for memory in ([one.anonymous_mib for one in looks], [one.all_mib for one in looks])
    )
    most = max(one.anonymous_mib for one in looks)
    return (
        f"server: {found.cpu_seconds / found.seconds:.2f} cores; MiB at the beginning and after each quarter: "
        f"{own} without mapped files (most {most:.0f}), {every} in all"
    )
