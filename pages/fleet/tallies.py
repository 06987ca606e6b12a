"""The overview's figures and tables, from frames of things."""

from __future__ import annotations

from dataclasses import replace

import pandas as pd

from analytics import cost_totals
from core.catalog import FAMILIES
from core.language import _, count, say, spoken
from core.readings import Outcome, Throttle
from core.units import show, unit_of
from pages.cost.window import last_day
from pages.shared import loaders, things, watts, words
from pages.shared.figures import Figure
from pages.shared.filters import View
from pages.shared.reasons import cost_reason, reasons

_BYTES = unit_of("memory_used_bytes")
STATES = ("active", "parked", "free", "off")
STATE_WORDS = {  # a shape beside the word
    "active": _("● active"),
    "parked": _("◐ parked"),
    "free": _("○ free"),
    "off": _("⊘ off"),
}
_JUDGED_BY = {
    "server": _("by the server"),
    "busy time": _("by busy time"),
    "no sample": _("by the lack of samples"),
}
_REPORTS = {True: _("stale"), False: _("yes")}
_BUSY_HELP = _(
    "active: work was done in the last five minutes, by the server's requests where one is known, else by busy time. "
    "parked: memory is held, nothing is done. free: no process holds it. off: no sample."
)


def accelerators_active(frame: pd.DataFrame, view: View) -> Figure:
    """How many devices work, of all there are; slices count with their device."""
    whole = things.whole(frame)
    counts = whole["state"].value_counts()
    rest = ", ".join(_in_state(state, int(counts[state])) for state in STATES[1:] if counts.get(state))
    text: str | None = _part(int(counts.get("active", 0)), len(whole)) if len(whole) else say("none found")
    if len(whole) and whole["stale"].all():
        last = whole["observed_at"].max()
        text = None
        rest = (
            say("no recent sample")  # all there were are sealed
            if pd.isna(last)
            else say("no sample since {time}", time=words.clock(last, view.zone, now=view.now))
        )
    label, help_ = say("Accelerators active"), say(_BUSY_HELP)
    return Figure(label=label, text=text, basis="derived", note=rest, reason=rest, help=help_)


def _in_state(state: str, number: int) -> str:
    return {
        "parked": count("{number} parked", "{number} parked", number),
        "free": count("{number} free", "{number} free", number),
        "off": count("{number} off", "{number} off", number),
    }[state]


def _part(part: int, whole: int) -> str:
    return say("{part} of {whole}", part=spoken().number(part), whole=spoken().number(whole))


def _held(used: float | None, size: float | None) -> str:
    return say("{part} of {whole}", part=show(used, _BYTES), whole=show(size, _BYTES))


def busy(frame: pd.DataFrame, view: View) -> Figure:
    """Mean busy time, and SM activity beside it where devices report it."""
    now = things.current(frame, view)
    active = things.mean(now, "sm_active_ratio")
    return Figure(
        label=say("Busy time") if len(frame) == 1 else say("Busy time, mean"),
        value=things.mean(now, "utilization_ratio"),
        unit=unit_of("utilization_ratio"),
        at=now["observed_at"].max(),
        note="" if active is None else say("SM activity {ratio}", ratio=show(active, unit_of("sm_active_ratio"))),
        help=say(
            "Share of time with at least one kernel running, mean over devices; not how full they were. "
            "SM activity, where it is reported, is the share of cycles in which an SM held a warp."
        ),
        reason=say("no device reports it"),
    )


def memory_held(frame: pd.DataFrame, view: View) -> Figure:
    """Device memory held, of all there is."""
    now = things.current(frame, view)
    now = things.whole(now[now["memory_total_bytes"].notna()])
    used, size = things.total(now, "memory_used_bytes"), things.total(now, "memory_total_bytes")
    return Figure(
        label=say("Memory held"),
        value=used / size if used is not None and size else None,
        unit=unit_of("x_ratio"),
        at=now["observed_at"].max(),
        note=_held(used, size),
        help=say("Device memory held by processes. A loaded model holds memory and may do no work."),
        reason=say("no device reports it"),
    )


def hottest(frame: pd.DataFrame, view: View) -> Figure:
    """The hottest sensor of all devices."""
    now = things.current(frame, view)
    celsius = now[["temperature_celsius", "memory_temperature_celsius"]].max(axis=1)
    return Figure(
        label=say("Hottest"),
        value=float(celsius.max()) if celsius.notna().any() else None,
        unit=unit_of("temperature_celsius"),
        at=now["observed_at"].max(),
        note=str(now["name"][celsius == celsius.max()].iloc[0]) if celsius.notna().any() else "",
        help=say("Highest of core, hotspot and memory temperature over all devices."),
        reason=say("no device reports a temperature"),
    )


def of_device(frame: pd.DataFrame, view: View) -> list[Figure]:
    """The figures of one device, accelerator or socket."""
    row = frame.iloc[0]
    if row["family"] == "accelerator":
        state = Figure(
            label=say("State"),
            text=say(STATE_WORDS[row["state"]]) if row["state"] in STATE_WORDS else None,
            basis="derived",
            note=say(_JUDGED_BY[row["basis"]]) if row["basis"] in _JUDGED_BY else "",
            help=say(_BUSY_HELP),
            reason=say("no sample was ever stored"),
        )
        drawn = replace(watts.accelerator_power(frame, view), label=say("Power"))
        heat = replace(hottest(frame, view), note="")
        return [state, busy(frame, view), memory_held(frame, view), drawn, heat, _held_down(row)]
    metrics = {"utilization_ratio": say("Busy time"), "power_watts": say("Package power")}
    metrics |= {"temperature_celsius": say("Temperature"), "frequency_hertz": say("Clock, mean of cores")}
    return [
        Figure(
            label=label,
            value=row[metric],
            unit=unit_of(metric),
            at=row["observed_at"],
            help=say(FAMILIES["cpu"].metric(metric).help),
            reason=reasons(("cpu", "epyc"), view)[0],
        )
        for metric, label in metrics.items()
    ]


def _held_down(row: pd.Series) -> Figure:
    bits = row["throttle_reasons"]
    known = not pd.isna(bits)
    held = known and Throttle(int(bits)) & ~Throttle.IDLE
    return Figure(
        label=say("Held down"),
        text=(say("yes") if held else say("no")) if known else None,
        at=row["observed_at"],
        note=words.throttle(bits) if held else "",
        help=say("Whether clocks are held down right now, and why. A power cap on a busy device is normal."),
        reason=say("the device does not say"),
    )


def unit_price(deployments: pd.DataFrame, view: View) -> Figure:
    """What a million output tokens cost of late, all deployments together; in a window of the past, what they cost."""
    priced, ids = last_day(view), set(things.ids(deployments))
    costs = [cost for cost in priced.costs() if cost.deployment_id in ids]
    total = cost_totals.total(costs)
    usd = total.usd_per_million_output_tokens
    why = cost_reason(total.reason) if costs else _("no server")
    return Figure(
        label=say("Cost per million output tokens"),
        text=say(why) if usd is None else priced.money.show(usd),
        basis=total.label.value if usd is not None else "missing",
        window=priced.words,
        help=say("The bill over output tokens, of the last day. The page Tokens has other windows, and the terms."),
    )


def host_cpu(frame: pd.DataFrame, view: View) -> Figure:
    """CPU busy time, mean over hosts."""
    now = things.current(frame, view)
    return Figure(
        label=say("Host CPU busy"),
        value=things.mean(now, "cpu_utilization_ratio"),
        unit=unit_of("cpu_utilization_ratio"),
        at=now["observed_at"].max(),
        note=say("mean of {number} hosts", number=spoken().number(len(now))) if len(now) > 1 else "",
        help=say("Share of time not idle, over all logical CPUs of a host."),
        reason=say("no host ever reported"),
    )


def host_memory(frame: pd.DataFrame, view: View) -> Figure:
    """Memory in use, of all hosts together."""
    now = things.current(frame, view)
    used, size = things.total(now, "memory_used_bytes"), things.total(now, "memory_total_bytes")
    return Figure(
        label=say("Host memory used"),
        value=used / size if used is not None and size else None,
        unit=unit_of("x_ratio"),
        at=now["observed_at"].max(),
        note=_held(used, size),
        help=say("Total less available memory."),
        reason=say("no host reports it"),
    )


def not_accelerators(hosts: pd.DataFrame, accelerators: pd.DataFrame, view: View) -> Figure:
    """The share of node power that is not accelerators, over hosts where both are known."""
    boards = things.current(things.whole(accelerators), view)
    known = boards.groupby("host")["power_watts"].sum(min_count=1)
    silent = set(boards.loc[boards["power_watts"].isna(), "host"])
    nodes = things.current(hosts, view).set_index("key")["node_power_watts"].dropna()
    nodes = nodes[nodes.index.isin(known.dropna().index.difference(sorted(silent)))]
    share = 1 - float(known[nodes.index].sum()) / float(nodes.sum()) if len(nodes) else None
    return Figure(
        label=say("Not accelerators"),
        value=share,
        unit=unit_of("x_ratio"),
        basis="derived",
        at=hosts["observed_at"].max(),
        help=say("Share of node power that accelerators do not draw: CPUs, memory, fans, losses of the supply."),
        reason=say("it takes a host with accelerators whose power and node power are both known"),
    )


def output_tokens(frame: pd.DataFrame, view: View) -> Figure:
    """Output tokens per second over the last minute, all servers together."""
    none = say("no server counted output tokens in the last minute")
    recent = token_rates(frame[~frame["gateway"]], view)["generation_tokens_per_second"].dropna()
    return Figure(
        label=say("Output tokens"),
        value=float(recent.sum()) if len(recent) else None,
        unit=unit_of("x_tokens_per_second"),
        basis="derived",
        window=say("last minute"),
        help=say("Increase of the servers' output token counters, reasoning included, per second; gateways left out."),
        reason=say("no inference server reports") if frame.empty else none,
    )


def token_rates(frame: pd.DataFrame, view: View) -> pd.DataFrame:
    """entity_id and generation_tokens_per_second over the last minute."""
    start_ms, end_ms = view.recent
    return loaders.rates(
        "deployment", ("generation_tokens_total",), things.ids(frame), start_ms, end_ms, end_ms - start_ms
    )


def sources_healthy(view: View) -> Figure:
    """How many sources deliver, of those that are here."""
    health = loaders.recent_health()
    if view.host is not None:
        health = health[health["host"] == view.host]
    here = health[(health["absent"] == 0) & (health["target"] == "")]
    well = here[(here["available"] == 1) & here["outcome"].notna() & (here["outcome"] != Outcome.FAILED.value)]
    return Figure(
        label=say("Sources healthy"),
        text=_part(len(well), len(here)) if here["last_tick_at"].notna().any() else None,
        at=here["last_tick_at"].max(),
        help=say("Collector sources whose library or device is here and whose last tick did not fail. See Health."),
        reason=say("no source was asked within the last hour"),
    )


def host_table(hosts: pd.DataFrame, accelerators: pd.DataFrame) -> pd.DataFrame:
    """One row per host, ratios from 0 to 1; ``reports`` is marked for translation."""
    whole = things.whole(accelerators).groupby("host").size()
    return pd.DataFrame(
        {
            "host": hosts["key"],
            "reports": hosts["stale"].map(_REPORTS),
            "accelerators": hosts["key"].map(whole).fillna(0).astype("int64"),
            "cpu_utilization_ratio": hosts["cpu_utilization_ratio"],
            "memory_used_ratio": hosts["memory_used_bytes"] / hosts["memory_total_bytes"],
            "disk_used_ratio": hosts["disk_used_bytes"] / hosts["disk_total_bytes"],
            "load_1m": hosts["load_1m"],
            "node_power_watts": hosts["node_power_watts"],
            "observed_at": hosts["observed_at"],
        }
    )


def socket_table(sockets: pd.DataFrame) -> pd.DataFrame:
    """One row per CPU socket; ``reports`` is marked for translation."""
    columns = ["utilization_ratio", "power_watts", "power_limit_watts", "temperature_celsius", "frequency_hertz"]
    return pd.DataFrame(
        {
            "socket": sockets["key"],
            "model": sockets["model"],
            "reports": sockets["stale"].map(_REPORTS),
            **{column: sockets[column] for column in columns},
            "observed_at": sockets["observed_at"],
        }
    )


def server_table(deployments: pd.DataFrame, view: View) -> pd.DataFrame:
    """One row per model and server; ``reports`` is marked for translation."""
    rates = token_rates(deployments, view).set_index("entity_id")["generation_tokens_per_second"]
    return pd.DataFrame(
        {
            "model": deployments["model"].fillna(deployments["key"]),
            "server": [labels.get("url", "") for labels in deployments["labels"]],
            "engine": [labels.get("engine", "") for labels in deployments["labels"]],
            "reports": deployments["stale"].map(_REPORTS),
            "running_requests": deployments["running_requests"],
            "waiting_requests": deployments["waiting_requests"],
            "kv_cache_usage_ratio": deployments["kv_cache_usage_ratio"],
            "output_tokens_per_second": deployments["entity_id"].map(rates),
            "observed_at": deployments["observed_at"],
        }
    )
