"""Parts of the document on what was wasted, and on what could be done about it."""

from __future__ import annotations

from collections.abc import Iterator

from analytics.wastes.waste import Figure as Evidence
from analytics.wastes.waste import Waste
from analytics.weekly import Action, Followed, WasteRecord, WeeklySummary, why_unknown
from reports import phrases
from reports.figures import one_line, why
from reports.sections import Section, Table
from reports.words import Words

MOST_HOSTS = 2
MOST_MUTED = 2
SHORT = 30  # characters of a name in a sentence


def wastes(summary: WeeklySummary, words: Words) -> Section:
    """What was wasted, dearest first."""
    say = words.say
    title, muted = say("Largest wastes"), tuple(_muted(summary, words))
    if not summary.wastes:
        none = say("No waste was found.") if not muted else say("No other waste was found.")
        return Section(title, (*muted, none))
    head = (say("What was wasted"), say("Where"), say("Evidence"), say("Cost in the week"), say("Label"))
    rows = tuple(
        (
            f"{say(phrases.WASTES[one.kind])}: {one_line(one.what)}",
            where(one, words),
            ", ".join(_evidence(figure, words) for figure in one.evidence if figure.value is not None),
            _cost(one, words),
            ", ".join((say(phrases.QUALITIES[one.quality]), *_standing(summary.record(one), words))),
        )
        for one in summary.wastes
    )
    return Section(title, muted, Table(head, rows, (3,)))


def _standing(of: WasteRecord, words: Words) -> Iterator[str]:
    """How old it is, and who answers for it."""
    yield words.say("new") if of.weeks == 1 else words.say("for {count} weeks", count=words.number(of.weeks))
    if of.owner:
        yield one_line(of.owner, SHORT)


def _muted(summary: WeeklySummary, words: Words) -> Iterator[str]:
    muted = [(one, one.muted_until) for one in summary.records if one.muted_until is not None]
    told = [
        words.say(
            "{what}, {cost} ({reason}, until {date})",
            what=f"{words.say(phrases.WASTES[one.kind])}: {one_line(one.what, SHORT)}",
            cost=words.say("unknown") if one.cost_usd is None else words.money(one.cost_usd),
            reason=one_line(one.muted, SHORT),
            date=until.isoformat(),
        )
        for one, until in muted[:MOST_MUTED]
    ]
    if told:
        more = (
            words.say(" and {count} more", count=words.number(len(muted) - len(told))) if len(muted) > len(told) else ""
        )
        yield words.say("Known and left alone: {wastes}.", wastes="; ".join(told) + more)


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
    title, lines = say("What could be done"), tuple(_followed(one, words) for one in summary.followed)
    if not summary.actions:
        return Section(title, (*lines, say("No action suggests itself.")))
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
    return Section(title, lines, Table(head, rows, ()))


def _followed(of: Followed, words: Words) -> str:
    """What became of an action of the week before."""
    action = words.say(phrases.ACTIONS[of.kind], what=one_line(of.what, SHORT))
    if of.is_done is None:
        return words.say("Last week: {action}. Whether it was done cannot be told.", action=action)
    if of.is_done:
        spared = words.say("unknown") if of.effect_usd is None else words.money(of.effect_usd)
        return words.say("Last week: {action}. Done; less waste by {amount}.", action=action, amount=spared)
    return words.say("Last week: {action}. Not done.", action=action)


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
