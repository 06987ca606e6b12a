"""Parts of the document on what was wasted, and on what could be done about it."""

from __future__ import annotations

from analytics.wastes.waste import Figure as Evidence
from analytics.wastes.waste import Waste
from analytics.weekly import Action, WeeklySummary, why_unknown
from reports import phrases
from reports.figures import one_line, why
from reports.sections import Section, Table
from reports.words import Words

MOST_HOSTS = 3


def wastes(summary: WeeklySummary, words: Words) -> Section:
    """What was wasted, dearest first."""
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


def actions(summary: WeeklySummary, words: Words) -> Section:
    """What could be done, and what that could save."""
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
