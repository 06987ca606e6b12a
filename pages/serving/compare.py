"""Which hardware or endpoint gives a user how many tokens a second, at what price and for how much energy."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd
import streamlit as st

from analytics.compare import Point, needs_price, published
from analytics.formulas.energy import Quality
from charts.compare import speed_against
from core.readings import Severity
from core.units import show_money
from pages.shared import loaders, words
from pages.shared.filters import View
from pages.shared.frame import no_data, page
from pages.shared.pictures import picture
from pages.shared.reasons import cost_reason
from pages.shared.tables import table
from pages.shared.verdict import Finding, verdict

SAME_WORK = "Seen, not a benchmark: points compare as far as model, prompts, answers and load are alike. "
_NUMBERS = (
    "usd_per_million_output_tokens",
    "joules_per_output_token",
    "running_requests",
    "prompt_tokens_per_request",
    "output_tokens_per_request",
)


def render() -> None:
    """Draw the page."""
    page("Compare", draw)


def draw(view: View) -> None:
    """Verdict, speed against price and against energy, and every point with its conditions."""
    points = [point for point in loaders.points(view.start_ms, view.end_ms) if _kept(point, view)]
    if not points:
        no_data(
            "Nothing to compare: no inference server and no probed endpoint was seen.",
            "",
            "start a server, or name a hosted endpoint in a [[probe]] entry with its prices",
        )
        return
    verdict(_findings(points), _sentence(points, view), view)
    if st.toggle(
        "Published references",
        key="compare-published",
        help="Speed and list price of hosted endpoints as vendors and testers published them, each with its source. "
        "Nothing of them was seen here.",
    ):
        points += published()
    frame = listed(points, view)
    left, right = st.columns(2)
    with left:
        _picture(
            frame,
            "usd_per_million_output_tokens",
            "USD per million output tokens",
            "Speed and price",
            note="derived · own: hardware and electricity, prompts and idle hours included. "
            "Hosted: list price of output tokens, prompts cost extra.",
            why="nothing has both a known speed and a price",
            remedy="set [[cost.hardware]], or prices in [[probe]]",
        )
    with right:
        _picture(
            frame,
            "joules_per_output_token",
            "J per output token",
            "Speed and energy",
            note="derived · energy of what the table's scope says; that of hosted endpoints is not known from outside.",
            why="nothing has both a known speed and a known energy",
        )
    st.caption(f"{SAME_WORK}Window: {view.words}.")
    _table(frame, view)


def _kept(point: Point, view: View) -> bool:
    """Whether the filters let it through; a hosted endpoint is on no host and no hardware."""
    chosen = view.keep(loaders.entities("deployment"))
    if point.kind == "own":
        return any(
            (labels.get("model", "unknown model"), labels.get("url", "")) == (point.model, point.server)
            for labels in chosen["labels"]
        )
    return view.model in (None, point.model) and view.host is None and view.deployment is None


def listed(points: Sequence[Point], view: View) -> pd.DataFrame:
    """One row per point, unknown figures as NaN with the reason beside them."""
    return pd.DataFrame(
        {
            "name": [point.model for point in points],
            "hardware": [point.hardware for point in points],
            "devices": pd.Series([point.devices for point in points], dtype="Int64"),
            "kind": [point.kind for point in points],
            "tokens_per_second": pd.Series([point.speed.tokens_per_second for point in points], dtype="float64"),
            **{name: pd.Series([getattr(point, name) for point in points], dtype="float64") for name in _NUMBERS},
            "missing": [_missing(point) for point in points],
            "speed_by": [point.speed.basis for point in points],
            "observations": [point.speed.observations for point in points],
            "price_by": [_price_basis(point) for point in points],
            "energy_by": [_energy(point) for point in points],
            "server": [point.server for point in points],
            "conditions": [_conditions(point, view) for point in points],
        }
    )


def _missing(point: Point) -> str:
    said = ["set a price" if needs_price(point) else cost_reason(point.reason)] if point.reason else []
    return ", ".join(said + ([] if point.speed.tokens_per_second else [point.speed.basis]))


def _energy(point: Point) -> str:
    if point.joules_per_output_token is None:
        return Quality.MISSING.value
    return f"{point.energy_quality.value}: {point.energy_scope}"


def _price_basis(point: Point) -> str:
    return f"{'published' if point.kind == 'published' else point.price_quality.value}: {point.price_basis}"


def _conditions(point: Point, view: View) -> str:
    """What a reader must know before comparing: in the tooltip, and in the file."""
    if point.kind == "published":
        return f"{point.speed.basis}, not seen here; {point.price_basis}"
    parts = [view.words, f"{point.speed.basis}, n = {point.speed.observations:,.0f}"]
    for value, said in (
        (point.devices, "devices"),
        (point.running_requests, "requests at once, mean"),
        (point.prompt_tokens_per_request, "prompt tokens a request"),
        (point.output_tokens_per_request, "output tokens a request"),
    ):
        parts += [] if value is None else [f"{value:,.3g} {said}" if value < 100 else f"{value:,.0f} {said}"]
    if point.kind == "hosted":
        parts.append("one request at a time; its load is not known")
    return "; ".join(parts)


def _findings(points: Sequence[Point]) -> list[Finding]:
    unpriced = [point.model for point in points if needs_price(point)]
    if not unpriced:
        return []
    names = ", ".join(dict.fromkeys(words.one_line(name, limit=60) for name in unpriced))
    return [Finding(Severity.INFO, f"{len(unpriced)} of {len(points)} without a price, set one to see them: {names}")]


def _sentence(points: Sequence[Point], view: View) -> str:
    """The fastest and the cheapest of what is known."""
    fast = max((p for p in points if p.speed.tokens_per_second), key=_speed, default=None)
    if fast is None:
        return f"{len(points)} seen in the {view.words}, of none a time per token."
    said = f"Fastest: {fast.model} on {fast.hardware}, {_speed(fast):,.0f} tokens/s per user"
    cheap = min((p for p in points if p.usd_per_million_output_tokens is not None), key=_price, default=None)
    if cheap is not None:
        said += f"; cheapest: {cheap.model} on {cheap.hardware}, {show_money(_price(cheap))} per million output tokens"
    return f"{said} ({view.words})."


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
        help="Output tokens per second that one user sees: 1 / median time per output token.",
        note=note,
        why=why,
        remedy=remedy,
    )


def _table(frame: pd.DataFrame, view: View) -> None:
    st.markdown("##### Every point and its conditions")
    number = st.column_config.NumberColumn
    columns = {
        "tokens_per_second": number("Tokens/s per user", format="%.1f"),
        "usd_per_million_output_tokens": number("USD per M output tokens", format="%.4f"),
        "joules_per_output_token": number("J per output token", format="%.3f"),
        "running_requests": number("Running, mean", format="%.1f"),
        "prompt_tokens_per_request": number("Prompt tokens a request", format="%.0f"),
        "output_tokens_per_request": number("Output tokens a request", format="%.0f"),
        "observations": number("n", format="localized"),
        "conditions": None,
    }
    titles = {
        "name": "model",
        "hardware": "runs on",
        "speed_by": "speed by",
        "price_by": "price",
        "energy_by": "energy",
    }
    table(frame, view, key="compare-points", titles=titles, columns=columns)


if __name__ == "__main__":
    render()
