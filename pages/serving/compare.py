"""Which hardware or endpoint gives a user how many tokens a second, at what price and for how much energy."""

from __future__ import annotations

from collections.abc import Container, Sequence

import pandas as pd
import streamlit as st

from analytics.compare import Point, needs_price, published
from analytics.formulas.energy import Quality
from charts.compare import speed_against
from core.language import _, count, say, spoken
from core.readings import Severity
from pages.serving.figures import significant
from pages.shared import loaders, words
from pages.shared.columns import number
from pages.shared.filters import View
from pages.shared.frame import no_data, page
from pages.shared.money import money
from pages.shared.pictures import picture
from pages.shared.reasons import cost_reason
from pages.shared.tables import table
from pages.shared.verdict import Finding, verdict

NAMELESS = _("unknown model")
_NUMBERS = (
    "usd_per_million_output_tokens",
    "joules_per_output_token",
    "running_requests",
    "prompt_tokens_per_request",
    "output_tokens_per_request",
)
_TITLES = {
    "name": _("model"),
    "hardware": _("runs on"),
    "devices": _("devices"),
    "kind": _("kind"),
    "missing": _("what is missing"),
    "speed_by": _("speed by"),
    "price_by": _("price"),
    "energy_by": _("energy"),
    "server": _("server"),
}
# How analytics.compare says what it knows of a point; all else that it says are names, dates and sources.
_TOLD = frozenset(
    (
        _("measured"),
        _("derived"),
        _("estimated"),
        _("missing"),
        NAMELESS,
        _("unknown hardware"),
        _("hosted endpoint"),
        _("no time per token"),
        _("1 / TPOT median"),
        _("1 / ITL median"),
        _("1 / mean time per token, by counters"),
        _("median of 1 / TPOT, probes"),
        _("published"),
        _("list price of output tokens, prompts cost extra"),
        _("hardware and electricity, prompts and idle hours included"),
        _("accelerator"),
        _("accelerator and its part of the CPU packages"),
        _("its part of the CPU packages"),
        _("CPU packages"),
        _("a part of the CPU packages"),
    )
)


def render() -> None:
    """Draw the page."""
    page(_("Compare"), draw)


def draw(view: View) -> None:
    """Verdict, speed against price and against energy, and every point with its conditions."""
    own = _own(view)
    points = [point for point in loaders.points(view.start_ms, view.end_ms) if _kept(point, own, view)]
    if not points:
        no_data(
            say("Nothing to compare: no inference server and no probed endpoint was seen."),
            "",
            say("start a server, or name a hosted endpoint in a [[probe]] entry with its prices"),
        )
        return
    verdict(_findings(points), _sentence(points, view), view)
    if st.toggle(
        say("Published references"),
        key="compare-published",
        help=say(
            "Speed and list price of hosted endpoints as vendors and testers published them, each with its source. "
            "Nothing of them was seen here."
        ),
    ):
        points += published()
    shown_in = money(view)
    frame = shown_in.frame(listed(points, view))
    price = shown_in.name("usd_per_million_output_tokens")
    left, right = st.columns(2)
    with left:
        _picture(
            frame,
            price,
            say("{currency} per million output tokens", currency=shown_in.currency),
            say("Speed and price"),
            note=say(
                "derived · own: hardware and electricity, prompts and idle hours included. "
                "Hosted: list price of output tokens, prompts cost extra."
            ),
            why=say("nothing has both a known speed and a price"),
            remedy=say("set [[cost.hardware]], or prices in [[probe]]"),
        )
    with right:
        _picture(
            frame,
            "joules_per_output_token",
            say("J per output token"),
            say("Speed and energy"),
            note=say(
                "derived · energy of what the table's scope says; that of hosted endpoints is not known from outside."
            ),
            why=say("nothing has both a known speed and a known energy"),
        )
    st.caption(
        say(
            "Seen, not a benchmark: points compare as far as model, prompts, answers and load are alike. "
            "Window: {window}.",
            window=view.words,
        )
    )
    _table(frame, view)


def _own(view: View) -> set[tuple[str, str]]:
    """Model and server of the deployments that the filters let through."""
    chosen = view.keep(loaders.entities("deployment"))
    return {(labels.get("model", NAMELESS), labels.get("url", "")) for labels in chosen["labels"]}


def _kept(point: Point, own: Container[tuple[str, str]], view: View) -> bool:
    """Whether the filters let it through; a hosted endpoint is on no host and no hardware."""
    if point.kind == "own":
        return (point.model, point.server) in own
    return view.model in (None, point.model) and view.host is None and view.deployment is None


def listed(points: Sequence[Point], view: View) -> pd.DataFrame:
    """One row per point, unknown figures as NaN with the reason beside them."""
    return pd.DataFrame(
        {
            "name": [_said(point.model) for point in points],
            "hardware": [_said(point.hardware) for point in points],
            "devices": pd.Series([point.devices for point in points], dtype="Int64"),
            "kind": [point.kind for point in points],
            "tokens_per_second": pd.Series([point.speed.tokens_per_second for point in points], dtype="float64"),
            **{name: pd.Series([getattr(point, name) for point in points], dtype="float64") for name in _NUMBERS},
            "missing": [_missing(point) for point in points],
            "speed_by": [_said(point.speed.basis) for point in points],
            "observations": [point.speed.observations for point in points],
            "price_by": [_price_basis(point) for point in points],
            "energy_by": [_energy(point) for point in points],
            "server": [point.server for point in points],
            "conditions": [_conditions(point, view) for point in points],
        }
    )


def _said(text: str, between: str = ", ") -> str:
    """What analytics say of a point, part by part in the visitor's language; a name stays as it is."""
    if text in _TOLD:
        return say(text)
    return between.join(say(part) if part in _TOLD else part for part in text.split(between))


def _missing(point: Point) -> str:
    said = [say("set a price") if needs_price(point) else cost_reason(point.reason)] if point.reason else []
    return ", ".join(said + ([] if point.speed.tokens_per_second else [_said(point.speed.basis)]))


def _energy(point: Point) -> str:
    if point.joules_per_output_token is None:
        return _said(Quality.MISSING.value)
    return f"{_said(point.energy_quality.value)}: {_said(point.energy_scope)}"


def _price_basis(point: Point) -> str:
    known = point.kind if point.kind == "published" else point.price_quality.value
    return f"{_said(known)}: {_said(point.price_basis, '; ')}"


def _conditions(point: Point, view: View) -> str:
    """What a reader must know before comparing: in the tooltip, and in the file."""
    basis = _said(point.speed.basis)
    if point.kind == "published":
        return say("{basis}, not seen here; {price}", basis=basis, price=_said(point.price_basis, "; "))
    parts = [view.words, say("{basis}, n = {count}", basis=basis, count=spoken().number(point.speed.observations))]
    if point.devices is not None:
        parts.append(count("{number} device", "{number} devices", point.devices))
    for value, told in (
        (point.running_requests, _("{mean} requests at once, mean")),
        (point.prompt_tokens_per_request, _("{mean} prompt tokens a request")),
        (point.output_tokens_per_request, _("{mean} output tokens a request")),
    ):
        parts += [] if value is None else [say(told, mean=significant(value, 3))]
    if point.kind == "hosted":
        parts.append(say("one request at a time; its load is not known"))
    return "; ".join(parts)


def _findings(points: Sequence[Point]) -> list[Finding]:
    unpriced = [point.model for point in points if needs_price(point)]
    if not unpriced:
        return []
    names = ", ".join(dict.fromkeys(words.one_line(_said(name), limit=60) for name in unpriced))
    text = say(
        "{count} of {all} without a price, set one to see them: {names}",
        count=spoken().number(len(unpriced)),
        all=spoken().number(len(points)),
        names=names,
    )
    return [Finding(Severity.INFO, text)]


def _sentence(points: Sequence[Point], view: View) -> str:
    """The fastest and the cheapest of what is known."""
    fast = max((p for p in points if p.speed.tokens_per_second), key=_speed, default=None)
    if fast is None:
        return count(
            "{number} seen in the {window}, without a time per token.",
            "{number} seen in the {window}, of none a time per token.",
            len(points),
            window=view.words,
        )
    parts = {"fast": _said(fast.model), "fast_on": _said(fast.hardware), "speed": spoken().number(_speed(fast))}
    cheap = min((p for p in points if p.usd_per_million_output_tokens is not None), key=_price, default=None)
    if cheap is None:
        return say("Fastest: {fast} on {fast_on}, {speed} tokens/s per user ({window}).", **parts, window=view.words)
    return say(
        "Fastest: {fast} on {fast_on}, {speed} tokens/s per user; cheapest: {cheap} on {cheap_on}, {price} per million "
        "output tokens ({window}).",
        **parts,
        cheap=_said(cheap.model),
        cheap_on=_said(cheap.hardware),
        price=money(view).show(_price(cheap)),
        window=view.words,
    )


def _speed(point: Point) -> float:
    return point.speed.tokens_per_second or 0.0


def _price(point: Point) -> float:
    return point.usd_per_million_output_tokens or 0.0


def _picture(frame: pd.DataFrame, column: str, axis: str, title: str, *, note: str, why: str, remedy: str = "") -> None:
    known = frame.dropna(subset=[column, "tokens_per_second"])
    drawn = known.assign(name=[words.one_line(n, limit=60) for n in known["name"]])
    picture(
        title,
        speed_against(drawn, column, axis) if len(drawn) else None,
        key=f"compare-{column}",
        help=say("Output tokens per second that one user sees: 1 / median time per output token."),
        note=note,
        why=why,
        remedy=remedy,
    )


def _table(frame: pd.DataFrame, view: View) -> None:
    st.markdown("##### " + say("Every point and its conditions"))
    columns = {
        "tokens_per_second": number(say("Tokens/s per user"), 1),
        **money(view).columns(frame, {"usd_per_million_output_tokens": _("per M output tokens")}),
        "joules_per_output_token": number(say("J per output token"), 3),
        "running_requests": number(say("Running, mean"), 1),
        "prompt_tokens_per_request": number(say("Prompt tokens a request"), 0),
        "output_tokens_per_request": number(say("Output tokens a request"), 0),
        "observations": number("n", 0),
        "conditions": None,
    }
    table(frame, view, key="compare-points", titles=_TITLES, columns=columns, said=("kind",))


if __name__ == "__main__":
    render()
