"""What became of wastes from week to week: their age, who answers for each, and what last week's actions brought."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from datetime import date

from analytics.formulas.unknown import product, total
from analytics.wastes.waste import Kind, Waste
from analytics.weekly.summary import Followed, WasteRecord, WeeklySummary
from core.sites import matches
from core.summary import Muted, SummarySettings

_Key = tuple[Kind, str, tuple[str, ...]]


def records(
    wastes: Iterable[Waste], before: WeeklySummary | None, settings: SummarySettings, name: str, monday: date
) -> tuple[WasteRecord, ...]:
    """How each waste stands, in the order of the list.

    Args:
        wastes: all that were found.
        before: the week before as it was kept; without it every waste is new.
        settings: owners, and what is muted.
        name: of this week.
        monday: its first day; what is muted until later is muted in this week.
    """
    known = {_key(one): one for one in (before.records if before is not None else ())}
    found = []
    for one in wastes:
        was = known.get(one.key)
        mute = next((rule for rule in settings.muted if rule.until > monday and _is_muted(one, rule)), None)
        found.append(
            WasteRecord(
                kind=one.kind,
                what=one.what,
                sites=one.sites,
                since=name if was is None else was.since,
                weeks=1 if was is None else was.weeks + 1,
                cost_usd=one.cost_usd,
                owner=next((rule.owner for rule in settings.owner if _names(one, rule.match)), ""),
                muted="" if mute is None else mute.reason,
                muted_until=None if mute is None else mute.until,
            )
        )
    return tuple(found)


def followed(
    before: WeeklySummary | None, now: Sequence[WasteRecord], hours: float, *, is_observed: bool
) -> Iterator[Followed]:
    """What became of the actions of the week before: done where the waste is gone, and what that spares in a week.

    Args:
        before: that week as it was kept.
        now: the wastes of this one.
        hours: of this week so far; costs of the week before are taken for as many.
        is_observed: whether enough was seen of this week to say that something is gone.
    """
    if before is None or not before.elapsed_hours:
        return
    costs: dict[_Key, list[float | None]] = {}
    for one in now:
        costs.setdefault(_key(one), []).append(one.cost_usd)
    for action in before.actions:
        waste = action.waste
        left = costs.get(waste.key)
        was = product(waste.cost_usd, hours / before.elapsed_hours)
        remains = 0.0 if left is None else total(*left)
        effect = None if was is None or remains is None or not is_observed else was - remains
        yield Followed(waste.kind, waste.what, (left is None) if is_observed else None, effect)


def _key(of: WasteRecord) -> _Key:
    return of.kind, of.what, of.sites


def _is_muted(waste: Waste, rule: Muted) -> bool:
    return matches(rule.kind, waste.kind.value) and _names(waste, rule.match)


def _names(waste: Waste, pattern: str) -> bool:
    return any(matches(pattern, name) for name in (waste.what, *waste.hosts, *waste.sites))
