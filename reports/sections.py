"""Parts of the document by what they are about: coverage, changes, who pays, objectives, contracts, assumptions."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from analytics.formulas.local_time import MS_PER_HOUR
from analytics.ledger import LINES, Bill
from analytics.weekly import ContractUse, Promise, WeeklySummary
from reports import phrases
from reports.figures import one_line, why
from reports.words import Words

MOST_ROWS = 8


class Table(NamedTuple):
    """Rows of text under their heads; ``numeric`` columns stand to the right."""

    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    numeric: tuple[int, ...]


class Section(NamedTuple):
    """A part of the document: sentences, then a table, either of which may lack."""

    title: str
    lines: tuple[str, ...]
    table: Table | None = None


def quality(summary: WeeklySummary, words: Words) -> Iterator[str]:
    """What the figures stand on, in sentences."""
    quality, say = summary.quality, words.say
    if quality.covered_ratio is None:
        yield say("No device was seen in this week.")
        return
    observed = words.percent(quality.covered_ratio)
    devices = words.number(quality.devices)
    if quality.is_lower_bound:
        yield say(
            "Energy was observed {observed} of the time of {devices} devices; totals are lower bounds.",
            observed=observed,
            devices=devices,
        )
    else:
        yield say(
            "Energy was observed {observed} of the time of {devices} devices.", observed=observed, devices=devices
        )
    yield say("Energy is {scope}.", scope=say(phrases.SCOPES[quality.energy_scope]))
    end_ms = summary.span.start_ms + round(summary.elapsed_hours * MS_PER_HOUR)
    if quality.accounted_until_ms is not None and quality.accounted_until_ms < end_ms:
        yield say("Accounts end at {time}.", time=words.time(quality.accounted_until_ms))
    if quality.batches_dropped:
        yield say("{count} batches of readings were ever lost.", count=words.number(quality.batches_dropped))
    for one in quality.missing[:MOST_ROWS]:
        yield say("Unknown: {why}.", why=why(one, words))
    if len(quality.missing) > MOST_ROWS:
        yield say("{count} more are unknown.", count=words.number(len(quality.missing) - MOST_ROWS))


def changes(summary: WeeklySummary, words: Words) -> Section:
    """Why cost and unit price are not those of the week before."""
    title, lines = words.say("Against the week before"), []
    if summary.cost_effects is not None:
        price, volume = map(words.moved, summary.cost_effects)
        lines.append(
            words.say(
                "Total cost: {price} by the price of a GPU-hour, {volume} by their number.", price=price, volume=volume
            )
        )
    if summary.unit_price_effects is not None:
        price, use, throughput = map(words.moved, summary.unit_price_effects)
        lines.append(
            words.say(
                "Cost per million output tokens: {price} by the price of a GPU-hour, {use} by the part of them used, "
                "{throughput} by tokens in a used one.",
                price=price,
                use=use,
                throughput=throughput,
            )
        )
    return Section(title, tuple(lines))


def models(summary: WeeklySummary, words: Words) -> Section:
    """What each model cost."""
    say = words.say
    head = (
        say("Model"),
        say("Cost"),
        say("kWh"),
        say("Output tokens"),
        say("Cost per million output tokens"),
    )
    unknown = say("unknown")
    rows = tuple(
        (
            one_line(one.model) or say("held by nobody"),
            unknown if one.usd is None else words.money(one.usd),
            unknown if one.kwh is None else words.significant(one.kwh),
            "" if one.output_tokens is None else words.scaled(one.output_tokens),
            "" if one.usd_per_million_output_tokens is None else words.money(one.usd_per_million_output_tokens),
        )
        for one in summary.models[:MOST_ROWS]
    )
    return Section(say("By model"), _cut(len(summary.models), words), _table(head, rows))


def sites(summary: WeeklySummary, words: Words) -> Section:
    """The bill of each site."""
    say = words.say
    head = (say("Site"), say("Cost"), *(say(phrases.COST_LINES[line]) for line in LINES), say("kWh"))
    rows = tuple((one_line(name), *_bill(one, words)) for name, one in summary.sites[:MOST_ROWS])
    return Section(say("By site"), _cut(len(summary.sites), words), _table(head, rows))


def _bill(of: Bill, words: Words) -> Iterator[str]:
    unknown = words.say("unknown")
    for usd in (of.total_usd, *(getattr(of, line) for line in LINES)):
        yield unknown if usd is None else words.money(usd)
    known = None not in (of.active_kwh, of.idle_kwh)
    yield words.significant((of.active_kwh or 0.0) + (of.idle_kwh or 0.0)) if known else unknown


def _cut(count: int, words: Words) -> tuple[str, ...]:
    more = count - MOST_ROWS
    return (words.say("The dearest are shown; {count} more are in the CSV file.", count=words.number(more)),) * (
        more > 0
    )


def _table(head: tuple[str, ...], rows: tuple[tuple[str, ...], ...]) -> Table | None:
    return Table(head, rows, tuple(range(1, len(head)))) if rows else None


def promises(summary: WeeklySummary, words: Words) -> Section:
    """How objectives of latency were kept."""
    say = words.say
    verdicts = {True: say("kept"), False: say("not kept"), None: say("cannot be told")}
    head = (say("Model"), say("Target"), say("Kept"), say("Requests"), say("Verdict"))
    rows = tuple(
        (
            one_line(one.model),
            words.percent(one.target_ratio),
            _between(one, words),
            words.number(one.requests),
            verdicts[one.is_kept],
        )
        for one in summary.promises[:MOST_ROWS]
    )
    return Section(say("Objectives of latency"), (), _table(head, rows))


def _between(of: Promise, words: Words) -> str:
    if of.low is None or of.high is None:
        return words.say("unknown")
    low, high = words.percent(of.low), words.percent(of.high)
    return low if low == high else words.say("{low} to {high}", low=low, high=high)


def contracts(summary: WeeklySummary, words: Words) -> Section:
    """What was used of each contract."""
    say = words.say
    head = (say("Contract"), say("Used"), say("Cost"), say("Unused"), say("Last day"))
    rows = tuple(_contract(one, words) for one in summary.contracts[:MOST_ROWS])
    ended = tuple(
        say("{name} ended in this week; only its days are counted.", name=one_line(one.name))
        for one in summary.contracts
        if one.ends_in_week
    )
    return Section(say("Contracts"), ended, _table(head, rows))


def _contract(of: ContractUse, words: Words) -> tuple[str, ...]:
    unknown = words.say("unknown") if of.why is None else why(of.why._replace(about=""), words)
    return (
        one_line(of.name),
        unknown if of.used_ratio is None else words.percent(of.used_ratio),
        unknown if of.usd is None else words.money(of.usd),
        unknown if of.unused_usd is None else words.money(of.unused_usd),
        of.last_day.isoformat(),
    )


def assumptions(summary: WeeklySummary, words: Words) -> Iterator[str]:
    """Where prices and factors are from, in sentences."""
    of, say = summary.assumptions, words.say
    sources = [one_line(str(source), 160) for source in of.price_sources[:MOST_ROWS]]
    more = len(of.price_sources) - len(sources)
    if sources:
        listed = "; ".join(sources) + (say(" and {count} more", count=words.number(more)) if more else "")
        yield say("Prices: {sources}.", sources=listed)
    if of.grid_sources:
        yield say("Grid factor: {source}.", source=one_line("; ".join(map(str, of.grid_sources)), 300))
    for name, pue_ratio in of.pue_by_site:
        told = say("none given, so energy is of devices alone") if pue_ratio is None else words.number(pue_ratio, 2)
        yield say("PUE of {site}: {pue}.", site=one_line(name), pue=told)
    yield say(
        "An output token weighs {weight} of prompt where deployments share a device.",
        weight=words.number(of.output_weight_ratio, 1),
    )
    yield say("Idle is what is parked or free; savings are half to all of what a waste costs in cash.")
    yield say("Efforts are rules of thumb.")
