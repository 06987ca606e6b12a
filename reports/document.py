"""The weekly summary in words: one document that HTML, PDF and spreadsheets lay out, each in its way."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

from analytics.formulas.energy import Quality
from analytics.formulas.local_time import MS_PER_HOUR
from analytics.ledger import LINES, Bill
from analytics.wastes.waste import Figure as Evidence
from analytics.wastes.waste import Waste
from analytics.weekly import (
    Action,
    ContractUse,
    Figure,
    Headline,
    Promise,
    Reason,
    Unit,
    WeeklySummary,
    Why,
    why_unknown,
)
from reports import phrases
from reports.words import Words

MOST_ROWS = 8
MOST_HOSTS = 3
MOST_TEXT = 60
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2060-\u2069]+")


class Tile(NamedTuple):
    """A headline: what it is called, its value or why there is none, the change, and what stands small below.

    tone: "good" or "bad" where a clear change is one of them.
    """

    label: str
    value: str
    change: str
    notes: tuple[str, ...]
    tone: str
    is_known: bool


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


@dataclass(frozen=True, slots=True, kw_only=True)
class Document:
    """All of it; ``first`` are the sections of the first page, ``second`` those of the second."""

    language: str
    title: str
    subtitle: str
    notices: tuple[str, ...]
    verdict: tuple[str, ...]
    tiles: tuple[Tile, ...]
    first: tuple[Section, ...]
    second: tuple[Section, ...]
    footer: str


def document(summary: WeeklySummary, words: Words) -> Document:
    """Put a week into words."""
    say = words.say
    return Document(
        language=str(words.locale).replace("_", "-"),
        title=say("Weekly efficiency summary, {week}", week=summary.name),
        subtitle=_subtitle(summary, words),
        notices=tuple(_notices(summary, words)),
        verdict=tuple(_verdict(summary, words)),
        tiles=tuple(_tile(one, words) for one in summary.headlines),
        first=(
            _wastes(summary, words),
            _actions(summary, words),
            Section(say("Data quality"), tuple(_quality(summary, words))),
        ),
        second=tuple(
            section
            for section in (
                _changes(summary, words),
                _models(summary, words),
                _sites(summary, words),
                _promises(summary, words),
                _contracts(summary, words),
                Section(say("What the amounts assume"), tuple(_assumptions(summary, words))),
            )
            if section.lines or section.table
        ),
        footer=say("Made by Vatio. Every rule is in docs/numbers.md. Unknown is said as unknown; 0 is measured."),
    )


def one_line(text: str, limit: int = MOST_TEXT) -> str:
    """Text from outside on one line of bounded length."""
    line = _CONTROL.sub(" ", text).strip()
    return line if len(line) <= limit else line[: limit - 1] + "…"


# --- figures ---


def value(figure: Figure, words: Words) -> str:
    """A figure as people read it: a number, a range, or why there is none."""
    low, high = (None if end is None else amount(end, figure.unit, words) for end in (figure.low, figure.high))
    if low is not None and high is not None and low != high:
        return words.say("{low} to {high}", low=low, high=high)
    if figure.value is not None:
        mark = "~" if figure.quality is Quality.ESTIMATED else ""
        return mark + amount(figure.value, figure.unit, words)
    return low or ("" if figure.why is None else why(figure.why, words))


def amount(number: float, unit: Unit, words: Words) -> str:
    """A number with its unit."""
    match unit:
        case Unit.USD | Unit.USD_PER_MILLION_TOKENS:
            return words.money(number)
        case Unit.TOKENS | Unit.REQUESTS:
            return words.scaled(number)
        case Unit.RATIO:
            return words.percent(number)
        case Unit.SECONDS:
            return f"{words.significant(number)} s" if number >= 1 else f"{words.number(number * 1000)} ms"
        case Unit.GPU_HOURS:
            return f"{words.number(number)} h"
        case Unit.KWH:
            return f"{words.significant(number)} kWh"
        case Unit.JOULES_PER_TOKEN:
            return f"{words.significant(number)} J"
        case Unit.GRAMS_PER_MILLION_TOKENS:
            return f"{words.significant(number)} g"


def why(of: Why, words: Words) -> str:
    """A reason, and what it is about."""
    about = ", ".join(one_line(part) for part in (of.currency, of.about) if part)
    said = words.say(phrases.REASONS[of.reason])
    return f"{said} ({about})" if about else said


def change(figure: Figure, words: Words) -> str:
    """A change against the week before; empty where there is none to tell."""
    if figure.change is None:
        return ""
    if figure.unit is Unit.RATIO:
        moved = words.say("{points} pp", points=_signed(figure.change * 100, words))
    elif figure.change_ratio is None:
        moved = amount(figure.change, figure.unit, words)
    else:
        moved = f"{_signed(figure.change_ratio * 100, words)} %"
    return moved if figure.is_clear else words.say("no clear change ({moved})", moved=moved)


def _signed(number: float, words: Words) -> str:
    return f"{'+' if number > 0 else ''}{words.number(round(number, 1) or 0.0, 1)}"


def _tile(headline: Headline, words: Words) -> Tile:
    main, *rest = headline.figures
    moved = main.change or 0.0
    tone = ""
    if main.is_clear and main.better:
        tone = "good" if (moved > 0) == (main.better == "up") else "bad"
    notes = [f"{value(one, words)} {words.say(phrases.FIGURES[one.key])}" for one in rest if _is_known(one)]
    unknown = [one for one in rest if not _is_known(one) and one.why != main.why]  # nobody needs it twice
    notes += [f"{words.say(phrases.FIGURES[one.key])}: {value(one, words)}" for one in unknown]
    if _is_known(main):
        notes += [why(main.why, words)] if main.why is not None else []
        notes.append(words.say(phrases.QUALITIES[main.quality]))
    return Tile(
        label=words.say(phrases.FIGURES[main.key]),
        value=value(main, words),
        change=change(main, words),
        notes=tuple(dict.fromkeys(notes)),
        tone=tone,
        is_known=_is_known(main),
    )


def _is_known(figure: Figure) -> bool:
    return figure.value is not None or figure.low is not None


# --- sentences ---


def _subtitle(summary: WeeklySummary, words: Words) -> str:
    begins, ends = words.time(summary.span.start_ms), words.time(summary.span.end_ms)
    if summary.is_whole:
        return words.say(
            "{begins} to {ends}, {hours} hours, {zone}",
            begins=begins,
            ends=ends,
            hours=words.number(summary.whole_hours),
            zone=summary.zone,
        )
    return words.say(
        "So far, {elapsed} of {hours} hours from {begins}, {zone}; compared with the same hours of the week before",
        begins=begins,
        elapsed=words.number(summary.elapsed_hours),
        hours=words.number(summary.whole_hours),
        zone=summary.zone,
    )


def _notices(summary: WeeklySummary, words: Words) -> Iterator[str]:
    if summary.is_simulated:
        yield words.say("Simulated: nothing in it was measured.")
    if summary.exchange.per_usd is None:
        yield words.say(
            "No exchange rate for {currency} is set, so amounts are in USD.", currency=summary.exchange.currency
        )
    elif summary.exchange.rate_on is not None:
        yield words.say(
            "Amounts in {currency} at the rate of {date}.",
            currency=summary.exchange.currency,
            date=summary.exchange.rate_on.isoformat(),
        )
    for at_ms in summary.quality.tariff_changes_ms:
        yield words.say(
            "A new electricity tariff began on {date}: amounts are not compared with the week before.",
            date=words.date(at_ms),
        )


def _verdict(summary: WeeklySummary, words: Words) -> Iterator[str]:
    """Cost, volume, unit price, and whether the objectives held."""
    of, say = summary.figures, words.say
    cost, unit, tokens = (of[key] for key in ("total_usd", "usd_per_million_output_tokens", "output_tokens"))
    if cost.value is None:
        yield say("What the week cost is not known: {why}.", why=value(cost, words))
    else:
        told = value(cost, words)
        yield say("The week cost {cost}.", cost=told) if summary.is_whole else say("So far it cost {cost}.", cost=told)
    if unit.value is not None:
        yield say(
            "{tokens} output tokens were served, at {price} per million.",
            tokens=value(tokens, words),
            price=value(unit, words),
        )
        yield from _unit_price_moved(summary, unit, words)
    elif tokens.value:
        yield say("{tokens} output tokens were served.", tokens=value(tokens, words))
    else:
        yield say("No tokens were served.") if tokens.value == 0 else say("No server counted tokens.")
    attained = of["attained_ratio"].why
    if attained is not None and attained.reason is Reason.NO_OBJECTIVE:
        yield say("No objective of latency is set.")
    else:
        yield _objectives(summary.promises, words)


def _unit_price_moved(summary: WeeklySummary, unit: Figure, words: Words) -> Iterator[str]:
    if unit.change is None or unit.previous is None or unit.value is None:
        return
    if not unit.is_clear:
        yield words.say("Cost per million output tokens: {change}.", change=change(unit, words))
        return
    fell = unit.change < 0
    parts = {
        "moved": f"{words.number(abs(unit.change_ratio or 0.0) * 100, 1)} %",
        "before": amount(unit.previous, unit.unit, words),
        "after": amount(unit.value, unit.unit, words),
    }
    told = (
        words.say("Cost per million output tokens fell {moved}, from {before} to {after}", **parts)
        if fell
        else words.say("Cost per million output tokens rose {moved}, from {before} to {after}", **parts)
    )
    effects = summary.unit_price_effects
    if effects is None:
        yield f"{told}."
        return
    name = (min if fell else max)(effects._fields, key=lambda one: float(getattr(effects, one)))
    yield words.say(
        "{told}; most of it is {cause}.", told=told, cause=words.say(phrases.UNIT_PRICE_EFFECTS[name][fell])
    )


def _objectives(promises: Iterable[Promise], words: Words) -> str:
    known = list(promises)
    missed = [one_line(one.model) for one in known if one.is_kept is False]
    if missed:
        return words.say("Not kept: the objective of {models}.", models=", ".join(missed))
    if known and all(one.is_kept for one in known):
        return words.say("All objectives of latency were kept.")
    return words.say("Whether the objectives of latency were kept cannot be told.")


# --- the first page ---


def _wastes(summary: WeeklySummary, words: Words) -> Section:
    say = words.say
    title = say("Largest wastes")
    if not summary.wastes:
        return Section(title, (say("No waste was found."),))
    head = (say("What was wasted"), say("Where"), say("Evidence"), say("Cost in the week"), say("Label"))
    rows = tuple(
        (
            f"{say(phrases.WASTES[one.kind])}: {one_line(one.what)}",
            where(one, words),
            ", ".join(_evidence(figure, words) for figure in one.evidence if figure.value is not None),
            _cost(one, words),
            say(phrases.QUALITIES[one.quality]),
        )
        for one in summary.wastes
    )
    return Section(title, (), Table(head, rows, (3,)))


def where(waste: Waste, words: Words) -> str:
    """Hosts of a waste, a few of them by name."""
    named = [one_line(host, 30) for host in waste.hosts[:MOST_HOSTS]]
    more = len(waste.hosts) - len(named)
    return ", ".join(named) + (words.say(" and {count} more", count=words.number(more)) if more else "")


def _cost(waste: Waste, words: Words) -> str:
    if waste.cost_usd is not None:
        return words.money(waste.cost_usd)
    reason = why_unknown(waste)
    return words.say("unknown") if reason is None else why(reason, words)


def _evidence(figure: Evidence, words: Words) -> str:
    number, said = figure.value or 0.0, words.say(phrases.EVIDENCE.get(figure.name, figure.name))
    if figure.name.endswith("_ratio"):
        return f"{words.percent(number)} {said}"
    if "usd" in figure.name:
        return f"{words.money(number)} {said}"
    return f"{words.significant(number) if number % 1 else words.number(number)} {said}"


def _actions(summary: WeeklySummary, words: Words) -> Section:
    say = words.say
    title = say("What could be done")
    if not summary.actions:
        return Section(title, (say("No action suggests itself."),))
    head = (say("Action"), say("Could save in a week"), say("Effort"), say("Risk"), say("To undo"))
    rows = tuple(
        (
            say(phrases.ACTIONS[one.waste.kind], what=one_line(one.waste.what)),
            _saving(one, words),
            f"{one.effort.size}, "
            + say(
                "{low} to {high} h", low=_hours(one.effort.low_hours, words), high=_hours(one.effort.high_hours, words)
            ),
            say(phrases.RISKS[one.effort.latency_risk]),
            say(phrases.UNDOING[one.waste.kind]),
        )
        for one in summary.actions
    )
    return Section(title, (), Table(head, rows, ()))


def _hours(number: float, words: Words) -> str:
    return words.number(number, 1 if number % 1 else 0)


def _saving(action: Action, words: Words) -> str:
    low, high = action.saving_usd
    said = []
    if high > 0:
        said.append(words.say("{low} to {high}", low=words.money(low), high=words.money(high)))
    else:
        said.append(words.say("no cash: what it costs is spent already"))
    if action.freed_gpu_hours > 0:
        said.append(words.say("{hours} GPU-hours free for other work", hours=words.number(action.freed_gpu_hours)))
    return "; ".join(said)


def _quality(summary: WeeklySummary, words: Words) -> Iterator[str]:
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


# --- the second page ---


def _changes(summary: WeeklySummary, words: Words) -> Section:
    title, lines = words.say("Against the week before"), []
    if summary.cost_effects is not None:
        price, volume = (f"{'+' if usd > 0 else ''}{words.money(usd)}" for usd in summary.cost_effects)
        lines.append(
            words.say(
                "Total cost: {price} by the price of a GPU-hour, {volume} by their number.", price=price, volume=volume
            )
        )
    if summary.unit_price_effects is not None:
        price, use, throughput = (f"{'+' if usd > 0 else ''}{words.money(usd)}" for usd in summary.unit_price_effects)
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


def _models(summary: WeeklySummary, words: Words) -> Section:
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


def _sites(summary: WeeklySummary, words: Words) -> Section:
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


def _promises(summary: WeeklySummary, words: Words) -> Section:
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


def _contracts(summary: WeeklySummary, words: Words) -> Section:
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


def _assumptions(summary: WeeklySummary, words: Words) -> Iterator[str]:
    of, say = summary.assumptions, words.say
    sources = [one_line(source, 160) for source in of.price_sources[:MOST_ROWS]]
    more = len(of.price_sources) - len(sources)
    if sources:
        listed = "; ".join(sources) + (say(" and {count} more", count=words.number(more)) if more else "")
        yield say("Prices: {sources}.", sources=listed)
    if of.grid_source:
        yield say("Grid factor: {source}.", source=one_line(of.grid_source, 300))
    for name, pue_ratio in of.pue_by_site:
        told = say("none given, so energy is of devices alone") if pue_ratio is None else words.number(pue_ratio, 2)
        yield say("PUE of {site}: {pue}.", site=one_line(name), pue=told)
    yield say(
        "An output token weighs {weight} of prompt where deployments share a device.",
        weight=words.number(of.output_weight_ratio, 1),
    )
    yield say("Idle is what is parked or free; savings are half to all of what a waste costs in cash.")
    yield say("Efforts are rules of thumb.")
