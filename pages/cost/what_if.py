"""Sliders over what was measured: a million output tokens at other settings, beside hosted prices. Stores nothing."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import pandas as pd
import streamlit as st

from analytics import what_if as trying
from analytics.costs import DeploymentCost, Term
from analytics.ledger import LINES
from analytics.what_if import Choice, Measured, Offer, Outcome
from charts.bill import price_bars
from core.language import _, say, spoken
from core.units import show, unit_of
from pages.cost import missing
from pages.cost.figures import LINE_WORDS, in_full
from pages.cost.window import Window
from pages.shared import loaders, words
from pages.shared.explained import Explained, explained
from pages.shared.figures import Figure
from pages.shared.frame import no_data
from pages.shared.money import Money
from pages.shared.pictures import picture
from pages.shared.store import settings
from pages.shared.tables import table

ASSUMED = _(
    "- Tokens grow and shrink with the hours worked, at the mean rate while there was work.\n"
    "- An hour with work takes the power measured in such hours, one without what those took. Where no hour was "
    "without work, one takes as much as with work: the most it can be.\n"
    "- Utilization is time: an hour with few requests counts as one with many. How full devices were shows in the "
    "tokens of the best hour.\n"
    "- Hardware and overhead fall due whether used or not. Overhead stays as it is.\n"
    "- PUE and tariff act on all electricity that is paid on top of the hardware.\n"
    "- Batch work keeps its tokens and energy, and pays the mean price of the hours it is moved to. That devices are "
    "free then is not checked.\n"
    "- Offers are for the same tokens, prompts included. Cached prompts cost as others do where an offer has no price "
    "for them or the server does not count them. Speed, quality and limits of an offer are not compared.\n"
    "- Break-even holds everything else as the sliders say."
)
PRICE_FORMULA = _("**(hardware + electricity active + idle + overhead) / output tokens × 1,000,000**, by the sliders.")
FULL_FORMULA = _(
    "**the same with work in every hour that devices are held**\n\nThe price of the capacity. The realised price is "
    "higher by what stands idle; for rented hardware it is this one over the utilization."
)
FLAT = _("Hours of batch work: nothing to choose, electricity costs the same at all hours.")
NO_BATCH = _("Hours of batch work: nothing to choose, no model is in `cost.flexible_models`.")
KINDS = {"own": _("own"), "hosted": _("hosted"), "published": _("published")}
TITLES = {
    "offer": _("offer"),
    "kind": _("kind"),
    "break_even": _("break-even"),
    "served_here": _("model served here"),
    "source": _("source"),
}
LEAST_CHANGE = 0.0005
USE, PUE, TARIFF, HARDWARE = (f"what-if-{name}" for name in ("use", "pue", "tariff", "hardware"))
MOVE, BEGINS, LASTS, UNHELD = (f"what-if-{name}" for name in ("move", "begins", "lasts", "unheld"))


def what_if(costs: Sequence[DeploymentCost], shown: Window) -> None:
    """Draw the section."""
    st.markdown(f"##### {say('What if')}")
    if shown.hours is None:
        missing.hours(shown, say("Trying begins at the bill of whole hours."))
        return
    ids = tuple(cost.deployment_id for cost in costs)
    alone, together = (loaders.what_if_base(*shown.hours, ids, both) for both in (False, True))
    if alone is None:
        no_data(say("There is no price per token to begin with."), say("A line of its cost or its tokens are unknown."))
        return
    _tried(alone, together, sorted({cost.model for cost in costs}), shown)


@st.fragment  # a slider runs this section again, and nothing else
def _tried(alone: Measured, together: Measured | None, models: Sequence[str], shown: Window) -> None:
    with_unheld = st.checkbox(
        say("Pay for hardware that no deployment held, too"),
        key=UNHELD,
        disabled=together is None,
        help=say("Off: as in the figures above, hardware that deployments held. On: the whole bill."),
    )
    of = together if with_unheld and together is not None else alone
    choice = _chosen(of)
    tried, full = trying.outcome(of, choice), trying.at_full_use(of, choice)
    _prices(trying.outcome(of, Choice()), tried, full, shown)
    offers = trying.offers(of, models, settings(), shown.view.end_ms - 1)
    picture(
        say("Beside hosted list prices"),
        price_bars(
            _bars(of, tried, full, offers, shown.money),
            say("{currency} per million output tokens", currency=shown.money.currency),
        ),
        key="what-if-prices",
        note=say("own: derived by the sliders · hosted: settings · published: by whom and when, see the table"),
    )
    _break_even(of, choice, offers, shown)


def _chosen(of: Measured) -> Choice:
    """The sliders; one that stands where it began is as measured, to the last digit."""
    state = st.session_state
    use, pue = _key(USE, of.utilization_ratio), _key(PUE, of.pue_ratio)
    percent = max(round((of.utilization_ratio or 0.0) * 100, 1), 1.0)
    began = {use: percent, pue: min(max(round(of.pue_ratio, 2), 1.0), 3.0), TARIFF: 1.0, HARDWARE: 1.0, MOVE: False}
    for key, value in began.items():
        state.setdefault(key, value)
    columns = st.columns(4)
    used = say("Share of the hours in which devices are held that they work.")
    columns[0].slider(
        say("Utilization (%)"),
        1.0,
        100.0,
        step=1.0,
        format="%.1f",
        key=use,
        disabled=of.utilization_ratio is None,
        help=used if of.utilization_ratio is not None else f"{used} {say('Not known of these devices.')}",
    )
    paid, cooled = say("Of what was paid at the meter."), say("1.00 where none was given: no cooling was paid for.")
    columns[1].slider(say("Electricity price (×)"), 0.0, 5.0, step=0.05, key=TARIFF, help=paid)
    columns[2].slider("PUE", 1.0, 3.0, step=0.01, key=pue, help=cooled)
    owned = say("Of rent or of owning it.")
    columns[3].slider(say("Hardware price (×)"), 0.0, 3.0, step=0.05, key=HARDWARE, help=owned)
    batch = _batch_hours(of)
    with st.container(horizontal=True, vertical_alignment="center"):
        st.button(
            say("As measured"), key="what-if-reset", icon=":material/undo:", on_click=partial(state.update, began)
        )
        if of.utilization_ratio is not None:
            st.button(say("At full use"), key="what-if-full", on_click=partial(state.update, {use: 100.0}))
        with st.popover(say("Assumptions"), icon=":material/rule:", type="tertiary"):
            st.markdown(say(ASSUMED))
    return Choice(
        utilization_ratio=None if state[use] == began[use] else state[use] / 100,
        tariff_factor=state[TARIFF],
        pue_ratio=None if state[pue] == began[pue] else state[pue],
        hardware_factor=state[HARDWARE],
        batch_hours=batch,
    )


def _key(name: str, measured: float | None) -> str:
    """Changes with what was measured, so that a slider never stands for an older measurement."""
    return name if measured is None else f"{name}-{measured:.4f}"


def _batch_hours(of: Measured) -> tuple[int, int] | None:
    """When work that can wait is done: first hour of the day and how many."""
    if of.movable is None:
        st.caption(say(FLAT if settings().cost.flexible_models else NO_BATCH))
        return None
    where = words.plain(settings().site.zone.key)
    columns = st.columns(3, vertical_alignment="bottom")
    moved = columns[0].toggle(say("Move batch work"), key=MOVE, help=say("Models in `cost.flexible_models`."))
    first = say("From hour of the day ({zone})", zone=where)
    begins = columns[1].slider(first, 0, 23, key=BEGINS, disabled=not moved)
    lasts = columns[2].slider(say("For hours"), 1, trying.HOURS_PER_DAY, 6, key=LASTS, disabled=not moved)
    return (begins, lasts) if moved else None


def _prices(measured: Outcome, tried: Outcome, full: Outcome | None, shown: Window) -> None:
    """Three prices that open to their lines."""
    named = [(say("Measured"), measured, PRICE_FORMULA), (say("By the sliders"), tried, PRICE_FORMULA)]
    if full is not None:
        named.append((say("By the sliders, at full use"), full, FULL_FORMULA))
    before = measured.usd_per_million_output_tokens
    figures = []
    for label, one, formula in named:
        now = one.usd_per_million_output_tokens
        change = "" if not before or now is None or now == before else _change(now / before)
        figures.append(
            Explained(
                Figure(
                    label=label,
                    text=shown.money.show(now, _("no tokens")),
                    basis="derived" if one is measured else "estimated",
                    window=shown.words if one is measured else say("as chosen"),
                    note=change,
                ),
                formula,
                _terms(one, shown.money),
            )
        )
    explained(figures, shown.view, key="what-if-price")


def _change(ratio: float) -> str:
    """Against what was measured; nothing where rounding leaves nothing."""
    if abs(ratio - 1) < LEAST_CHANGE:
        return ""
    sign = "+" if ratio > 1 else ""
    return say("{change} of measured", change=sign + words.percent(ratio - 1, 1))


def _terms(of: Outcome, money: Money) -> list[Term]:
    source = say("bill, by the sliders")
    lines = [Term(say(LINE_WORDS[line]), money.show(getattr(of, line)), source) for line in LINES]
    tokens = spoken().number(of.output_tokens)
    return [*lines, Term(say("output tokens"), tokens, say("server's counter, by utilization"))]


def _bars(of: Measured, tried: Outcome, full: Outcome | None, offers: Sequence[Offer], money: Money) -> pd.DataFrame:
    rows = [(say("by the sliders"), "own", tried.usd_per_million_output_tokens)]
    rows += [(say("measured"), "own", trying.outcome(of, Choice()).usd_per_million_output_tokens)]
    rows += [] if full is None else [(say("at full use"), "own", full.usd_per_million_output_tokens)]
    rows += [(words.one_line(one.name, limit=80), one.kind, one.usd_per_million_output_tokens) for one in offers]
    rows = [(name, say(KINDS[kind]), usd) for name, kind, usd in rows]
    frame = pd.DataFrame(rows, columns=["name", "kind", "price"]).astype({"price": "float64"})
    return frame.assign(price=money.column(frame["price"]))


def _break_even(of: Measured, choice: Choice, offers: Sequence[Offer], shown: Window) -> None:
    """From where on own hardware is no dearer than each offer."""
    said = [_said(of, choice, one, shown.money) for one in offers]
    for one, text in zip(offers, said, strict=True):
        if one.fits and one.usd_per_million_output_tokens is not None:
            name = words.plain(one.name)
            st.markdown(
                say(":material/balance: Break-even with **{offer}**: {told}.", offer=name, told=words.plain(text))
            )
    if not settings().cost.hosted:
        st.caption(
            say("Name the list prices you could buy at in `[[cost.hosted]]` to see where own hardware breaks even.")
        )
    frame = pd.DataFrame(
        {
            "offer": [one.name for one in offers],
            "kind": [one.kind for one in offers],
            "usd_per_million_output_tokens": [one.usd_per_million_output_tokens for one in offers],
            "saved_by_cache_usd": [one.saved_by_cache_usd for one in offers],
            "break_even": said,
            "served_here": [_("yes") if one.fits else _("no") for one in offers],
            "source": [str(one.source) for one in offers],
        }
    ).astype(dict.fromkeys(("usd_per_million_output_tokens", "saved_by_cache_usd"), "float64"))
    converted = shown.money.frame(frame)
    amounts = {
        "usd_per_million_output_tokens": _("Same tokens, per M output"),
        "saved_by_cache_usd": _("Saved by cached prompts"),
    }
    table(
        converted,
        shown.view,
        key="what-if-offers",
        titles=TITLES,
        columns=shown.money.columns(converted, amounts),
        said=("kind", "served_here"),
    )


def _said(of: Measured, choice: Choice, offer: Offer, money: Money) -> str:
    """Break-even in words."""
    if offer.usd_per_million_output_tokens is None:
        return say("unknown: {reason}", reason=in_full(offer.reason))
    if of.utilization_ratio is None:
        return say("unknown: utilization is not known")
    found = trying.break_even(of, choice, offer.usd_per_million_output_tokens)
    if found is None:
        return say("never: electricity alone costs more")
    daily = show(found.output_tokens_per_day, unit_of("x_tokens"))
    if found.utilization_ratio <= 1:
        use = words.percent(found.utilization_ratio, 1)
        return say("from {use} utilization on, {tokens} of output a day", use=use, tokens=daily)
    times = spoken().number(found.utilization_ratio, 1)
    if of.best_hour_ratio is None:
        return say(
            "never at the measured rate: it takes {times} times full use, {tokens} of output a day",
            times=times,
            tokens=daily,
        )
    return say(
        "never at the measured rate: it takes {times} times full use, {tokens} of output a day (the best hour made "
        "{best} times the mean)",
        times=times,
        tokens=daily,
        best=spoken().number(of.best_hour_ratio, 1),
    )
