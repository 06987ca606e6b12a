"""The summary of a week from the store: everything that this package says, put together."""

from __future__ import annotations

from datetime import timedelta

from analytics import prices
from analytics.device_hours import whole_hours
from analytics.formulas import change
from analytics.formulas.local_time import Span, local
from analytics.ledger import bills
from analytics.prices import Converted
from analytics.wastes.find import find_wastes
from analytics.weekly import actions, against, contracts, follow, history, kept, month, payers, promises
from analytics.weekly.reasons import why_of
from analytics.weekly.summary import Assumptions, DataQuality, Exchange, Inputs, WeeklySummary
from analytics.weekly.values import energy_scope, idle_lines
from analytics.weekly.week import Week, hourly, hours_so_far, week_of, week_span
from core.settings import Settings
from storage import queries
from storage.engine import Store

TOP_WASTES, TOP_ACTIONS = 5, 3


def weekly_summary(engine: Store, settings: Settings, year: int, week: int, now_ms: int) -> WeeklySummary:
    """Everything that is said of a week.

    Args:
        engine: the reader.
        settings: with prices and sites.
        year: of ISO 8601.
        week: its number.
        now_ms: a week that is not over has the hours up to now that are accounted for.

    Raises:
        ValueError: the year has no such week.
    """
    span = week_span(year, week, settings)
    accounted = queries.accounted_until(engine)
    begun_ms, accounted_ms = begun_ms_of(engine), max(accounted.values(), default=None)
    until_ms = span.end_ms if now_ms >= span.end_ms else min(now_ms, accounted_ms or span.start_ms)
    priced = hourly(engine, settings, hours_so_far(span, until_ms), accounted)
    found = week_of(engine, settings, span, priced)
    now = history.read(engine, settings, found, priced, history.daily(priced, settings), begun_ms)
    before = list(history.weeks_before(engine, settings, found, begun_ms, accounted))
    wastes = find_wastes(engine, priced, settings, [contracts.commitment(one) for one in now.standings])
    rows = tuple(payers.rows(engine, priced))
    known_days = month.days_of_month(engine, settings, now, before, accounted)
    so_far, month_end = month.month_so_far(settings, found.span, known_days)
    values = {**now.values, "month_end_usd": month_end}
    idle_hardware_usd, idle_electricity_usd = idle_lines(found, priced)
    tariff_changes = against.tariff_changes(settings, Span(history.monday_ms(found, settings, 1), span.end_ms))
    last = before[-1] if before and before[-1] is not None and before[-1].was_there and not tariff_changes else None
    facts = queries.facts(engine)
    monday = local(span.start_ms, settings.site.zone).date()
    kept_before = kept.newest_kept(engine, f"{monday - timedelta(weeks=1):%G-W%V}")
    recorded = follow.records(wastes, kept_before, settings.summary, found.name, monday)
    listed = [waste for waste, one in zip(wastes, recorded, strict=True) if not one.muted]
    return WeeklySummary(
        name=found.name,
        span=span,
        zone=settings.site.time_zone,
        elapsed_hours=found.hours,
        whole_hours=Span(*whole_hours(*span)).hours,
        is_simulated=settings.simulated or facts.get("simulated") == "true",
        exchange=_exchange(settings, found),
        headlines=tuple(against.headlines(values, found.hours, before, bool(tariff_changes))),
        cost_effects=None if last is None else change.cost_effects(last.week.window, found.window),
        unit_price_effects=None if last is None else change.unit_price_effects(last.week.window, found.window),
        promises=tuple(map(promises.promise, found.attainments)),
        wastes=tuple(listed[:TOP_WASTES]),
        records=recorded,
        actions=tuple(actions.actions(listed))[:TOP_ACTIONS],
        followed=tuple(follow.followed(kept_before, recorded, found.hours, is_observed=found.is_observed)),
        contracts=tuple(contracts.contract(one, settings, span) for one in now.standings),
        days=now.days,
        models=payers.models(priced, rows, found.is_observed),
        sites=tuple(sorted(bills(priced, "site").items(), key=lambda one: (-(one[1].total_usd or 0.0), one[0]))),
        rows=rows,
        quality=DataQuality(
            covered_ratio=values["covered_ratio"].value,
            is_lower_bound=found.is_lower_bound,
            devices=int(priced.rows["device_id"].nunique()),
            energy_scope=energy_scope(settings, priced),
            accounted_until_ms=None if accounted_ms is None else min(accounted_ms, span.end_ms),
            batches_dropped=int(facts.get("batches_dropped", 0)),
            missing=tuple(why_of(reason, who) for who, reason in found.bill.missing),
            tariff_changes_ms=tariff_changes,
        ),
        assumptions=Assumptions(
            price_sources=priced.sources,
            grid_sources=found.grid_sources,
            pue_by_site=tuple((site.name, site.pue_ratio) for site in (settings.site, *settings.site.other)),
            output_weight_ratio=settings.cost.output_weight_ratio,
        ),
        inputs=Inputs(
            cached_prompt_tokens=found.cached_prompt_tokens,
            attainments=found.attainments,
            ttft=found.ttft,
            tpot=found.tpot,
            idle_hardware_usd=idle_hardware_usd,
            idle_electricity_usd=idle_electricity_usd,
            emissions=found.emissions,
            contracts=tuple(map(contracts.amounts, now.standings)),
            month=so_far,
        ),
    )


def begun_ms_of(engine: Store) -> int | None:
    """When the first thing that has accounts was seen (Unix ms)."""
    first = queries.entities(engine)["first_seen_at"]
    return None if first.empty else int(queries.epoch_ms(first).min())


def _exchange(settings: Settings, found: Week) -> Exchange:
    currency = settings.cost.currency
    rate: Converted = prices.to_currency(settings, 1.0, "USD", currency, found.span.end_ms - 1)
    return Exchange(currency, rate.amount, rate.rate_on)
