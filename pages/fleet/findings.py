"""What is wrong in the fleet at this moment, and since when."""

from __future__ import annotations

import pandas as pd

from core.language import _, count, say, spoken
from core.readings import ALARMING_THROTTLE, Outcome, Severity
from pages.shared import loaders, things, words
from pages.shared.filters import View
from pages.shared.verdict import Finding
from storage.queries import LOOKBACK_MS

DAY = pd.Timedelta(days=1)  # what has been silent for longer was taken away, not lost
THROTTLE_LOOKBACK_MS = 6 * 3_600_000
FULL_RATIO = 0.95
PRESSURE_RATIO = 0.25
_REMAP_FAILED = 2
_ASKS_FOR = {
    1: _("{device}: the driver asks for a reset of the device"),
    2: _("{device}: the driver asks for a reboot of the node"),
}
_FULL = {"memory": _("{host}: memory is {ratio} full"), "disk": _("{host}: disk is {ratio} full")}
_WAITING = {
    "memory": _("{host}: tasks wait for memory {ratio} of the time"),
    "io": _("{host}: tasks wait for io {ratio} of the time"),
}


def everything(accelerators: pd.DataFrame, hosts: pd.DataFrame, deployments: pd.DataFrame, view: View) -> list[Finding]:
    """All findings of a view, in no order; frames as ``things`` gives them."""
    return [
        *sources(view),
        *of_accelerators(accelerators, view),
        *of_hosts(hosts, view),
        *silent(deployments, "server", view),
        *critical_events(view),
    ]


def of_accelerators(frame: pd.DataFrame, view: View) -> list[Finding]:
    """What is wrong with the devices of a frame."""
    return [
        *silent(frame, "accelerator", view),
        *throttled(frame, view),
        *broken(frame),
        *memory_errors(frame, view),
    ]


def of_hosts(frame: pd.DataFrame, view: View) -> list[Finding]:
    """What is wrong with the hosts of a frame."""
    return [*silent(frame, "host", view), *strained(frame)]


def all_well(view: View) -> str:
    """What can be said when nothing is wrong: what was looked at, and when something last was."""
    warnings = loaders.events(view.start_ms, loaders.now_ms())
    warnings = warnings[warnings["severity"] != Severity.INFO.value]
    quiet = say("no warning event ({window})", window=view.words)
    if len(warnings):
        last = words.clock(warnings["observed_at"].max(), view.zone, now=view.now)
        quiet = say("last warning event at {time}", time=last)
    return say(
        "All well: every source delivers, nothing stopped reporting, no device slows itself down, {quiet}.", quiet=quiet
    )


def sources(view: View) -> list[Finding]:
    """Sources that are here but do not deliver."""
    health = loaders.recent_health()
    if view.host is not None:
        health = health[health["host"] == view.host]
    found = []
    for row in health.to_dict("records"):
        who = {"source": f"{row['source']} {row['target']}".strip(), "host": str(row["host"])}
        if row["available"] == 0 and row["absent"] == 0:
            text = say("{source} on {host} cannot be read: {reason}", reason=str(row["reason"]), **who)
            found.append(Finding(Severity.WARNING, text))
        elif row["outcome"] == Outcome.FAILED.value:
            text = say("{source} on {host} fails: {error}", error=str(row["error"]), **who)
            found.append(Finding(Severity.WARNING, text, row["last_success_at"]))
    return found


def silent(frame: pd.DataFrame, what: str, view: View) -> list[Finding]:
    """Things that stopped reporting within the last day, while others go on."""
    if loaders.silent_ms(view.now_ms) > view.stale_after_ms:
        return []  # then it is the collector that is silent, and the strip says so
    lost = frame[frame["stale"] & (frame["observed_at"] > view.now - DAY)]
    if lost.empty:
        return []
    text = _stopped(what, len(lost), _some(lost["name"].tolist()))
    return [Finding(Severity.CRITICAL, text, lost["observed_at"].min())]


def _stopped(what: str, number: int, names: str) -> str:
    return {
        "accelerator": count(
            "{number} accelerator has stopped reporting: {names}",
            "{number} accelerators have stopped reporting: {names}",
            number,
            names=names,
        ),
        "socket": count(
            "{number} socket has stopped reporting: {names}",
            "{number} sockets have stopped reporting: {names}",
            number,
            names=names,
        ),
        "host": count(
            "{number} host has stopped reporting: {names}",
            "{number} hosts have stopped reporting: {names}",
            number,
            names=names,
        ),
        "server": count(
            "{number} server has stopped reporting: {names}",
            "{number} servers have stopped reporting: {names}",
            number,
            names=names,
        ),
    }[what]


def throttled(frame: pd.DataFrame, view: View) -> list[Finding]:
    """Devices whose hardware protects itself; a power cap on a busy card is normal."""
    bits = frame["throttle_reasons"].fillna(0).astype("int64")
    held = frame[(bits & int(ALARMING_THROTTLE) != 0) & ~frame["stale"]]
    if held.empty:
        return []
    start_ms = max(view.start_ms, view.end_ms - THROTTLE_LOOKBACK_MS)
    states = loaders.raw("accelerator", ("throttle_reasons",), things.ids(held), start_ms, view.end_ms)
    found = []
    for row in held.to_dict("records"):
        since = _began(states[states["entity_id"] == row["entity_id"]])
        text = say(
            "{device} slows itself down: {reasons}", device=row["name"], reasons=words.throttle(row["throttle_reasons"])
        )
        found.append(Finding(Severity.WARNING, text, since))
    return found


def _began(states: pd.DataFrame) -> pd.Timestamp | None:
    """When the present run of alarming samples began; ``None`` when it is as old as the samples."""
    alarming = states["throttle_reasons"].fillna(0).astype("int64") & int(ALARMING_THROTTLE) != 0
    calm = states.loc[~alarming, "observed_at"]
    if calm.empty:
        return None
    after = states.loc[states["observed_at"] > calm.max(), "observed_at"]
    return None if after.empty else after.min()


def broken(frame: pd.DataFrame) -> list[Finding]:
    """Devices that ask for a hand."""
    remapped = frame["row_remap_state"].fillna(0).astype("int64") & _REMAP_FAILED != 0
    found = []
    for row in frame[remapped | (frame["recovery_action"].fillna(0) != 0)].to_dict("records"):
        action, remap = row["recovery_action"], row["row_remap_state"]
        if action == action and action:
            wish = _ASKS_FOR.get(int(action), _("{device}: the driver asks for recovery action {action}"))
            text = say(wish, device=row["name"], action=str(int(action)))
            found.append(Finding(Severity.CRITICAL, text))
        if remap == remap and int(remap) & _REMAP_FAILED:
            text = say("{device}: memory rows cannot be remapped, replace the board", device=row["name"])
            found.append(Finding(Severity.CRITICAL, text))
    return found


def memory_errors(frame: pd.DataFrame, view: View) -> list[Finding]:
    """Uncorrected memory errors that were counted within the window."""
    name, looked_back_ms = "ecc_uncorrected_errors_total", view.start_ms - LOOKBACK_MS
    between = loaders.extremes("accelerator", name, looked_back_ms, view.end_ms)
    grown = between.loc[between["highest"] > between["lowest"], "entity_id"]
    suspects = things.ids(frame[frame["entity_id"].isin(grown)])
    counts = loaders.increases("accelerator", (name,), suspects, view.start_ms, view.end_ms)
    bad = things.named(counts[counts[name] > 0], frame)
    return [
        Finding(
            Severity.CRITICAL,
            count(
                "{device}: {number} uncorrected memory error ({window})",
                "{device}: {number} uncorrected memory errors ({window})",
                int(errors),
                device=device,
                window=view.words,
            ),
        )
        for device, errors in zip(bad["series"], bad[name], strict=True)
    ]


def strained(frame: pd.DataFrame) -> list[Finding]:
    """Hosts without room, or whose tasks wait."""
    found = []
    for row in frame[~frame["stale"]].to_dict("records"):
        ratios = [
            (text, row[f"{part}_used_bytes"] / row[f"{part}_total_bytes"], FULL_RATIO) for part, text in _FULL.items()
        ]
        ratios += [(text, row[f"{part}_pressure_ratio"], PRESSURE_RATIO) for part, text in _WAITING.items()]
        found += [
            Finding(Severity.WARNING, say(text, host=row["name"], ratio=words.percent(ratio)))
            for text, ratio, most in ratios
            if ratio > most
        ]
    return found


def critical_events(view: View) -> list[Finding]:
    """Events of the window that matter most; newest of each kind and thing."""
    events = loaders.events(view.start_ms, loaders.now_ms())
    critical = events[events["severity"] == Severity.CRITICAL.value].drop_duplicates(["kind", "entity_id"])
    return [
        Finding(Severity.CRITICAL, f"{row['kind']}: {row['message']}", row["observed_at"])
        for row in critical.to_dict("records")
    ]


def _some(names: list[str], most: int = 3) -> str:
    named = ", ".join(names[:most])
    if len(names) <= most:
        return named
    return say("{names} and {number} more", names=named, number=spoken().number(len(names) - most))
