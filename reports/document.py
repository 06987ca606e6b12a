"""The weekly summary in words: one document that HTML, PDF and spreadsheets lay out, each in its way."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from analytics.weekly import Figure, Promise, Reason, WeeklySummary
from core.language import speaking
from reports import findings, phrases, sections
from reports.figures import Tile, amount, change, one_line, tile, value
from reports.sections import Section
from reports.words import Words


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
    with speaking(words):  # texts that were made before anybody's language was known
        return Document(
            language=str(words.locale).replace("_", "-"),
            title=say("Weekly efficiency summary, {week}", week=summary.name),
            subtitle=_subtitle(summary, words),
            notices=tuple(_notices(summary, words)),
            verdict=tuple(_verdict(summary, words)),
            tiles=tuple(tile(one, words) for one in summary.headlines),
            first=(
                findings.wastes(summary, words),
                findings.actions(summary, words),
                Section(say("Data quality"), tuple(sections.quality(summary, words))),
            ),
            second=tuple(
                section
                for section in (
                    sections.changes(summary, words),
                    sections.models(summary, words),
                    sections.sites(summary, words),
                    sections.promises(summary, words),
                    sections.contracts(summary, words),
                    Section(say("What the amounts assume"), tuple(sections.assumptions(summary, words))),
                )
                if section.lines or section.table
            ),
            footer=say("Made by Vatio. Every rule is in docs/numbers.md. Unknown is said as unknown; 0 is measured."),
        )


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
