"""Text that people read: ages, times in the site's zone, shares, throttle reasons, and foreign text made harmless."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pandas as pd

from core.language import _, say, spoken
from core.readings import Throttle

_MARKDOWN = re.compile(r"([\\`*_{}\[\]()#+\-.!|~$<>&:])")
_REWRITTEN = re.compile(r"(?<=:)(?=//)|(?<=www)(?=\.)|(?=@)|(?<=-)(?=[->])|(?<=<)(?=-)", re.IGNORECASE)
_JOINER = "\u2060"  # invisible, has no width
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2060-\u2069]+")
_THROTTLE_WORDS = {
    Throttle.IDLE: _("idle"),
    Throttle.POWER_CAP: _("power cap"),
    Throttle.HARDWARE_SLOWDOWN: _("hardware slowdown"),
    Throttle.SOFTWARE_THERMAL: _("warm (driver)"),
    Throttle.HARDWARE_THERMAL: _("too hot (hardware)"),
    Throttle.POWER_BRAKE: _("power brake"),
    Throttle.SYNC_BOOST: _("sync boost"),
    Throttle.USER_CLOCKS: _("clocks set by user"),
    Throttle.DISPLAY: _("display clocks"),
    Throttle.MEMORY_THERMAL: _("memory too hot"),
    Throttle.REGULATOR_THERMAL: _("regulator too hot"),
    Throttle.PROCHOT: "PROCHOT",
}


def plain(text: object, *, limit: int = 200) -> str:
    """Text from outside (a label, a name, an error) for a place where Streamlit reads Markdown.

    Every character that Markdown, LaTeX, HTML or Streamlit's own ``:icon:`` syntax could act on
    becomes a character reference; control and direction characters become a space. Addresses and
    arrows, which are looked for once the references are gone, are held apart by an invisible joiner.
    """
    apart = _REWRITTEN.sub(_JOINER, one_line(text, limit=limit))
    return _MARKDOWN.sub(lambda found: f"&#{ord(found[1])};", apart)


def one_line(text: object, *, limit: int = 200) -> str:
    """Text from outside on one line of bounded length; for places that show it as it is."""
    line = _CONTROL.sub(" ", str(text)).strip()
    return line if len(line) <= limit else line[: limit - 1] + "…"


def duration(seconds: float) -> str:
    """A span as people say it: ``4 s``, ``3 min``, ``2 h 5 min``, ``3 d``."""
    whole = max(int(seconds), 0)
    if whole < 90:
        return f"{whole} s"
    if whole < 5_400:
        return f"{round(whole / 60)} min"
    if whole < 172_800:
        hours, rest = divmod(round(whole / 60), 60)
        return f"{hours} h {rest} min" if rest else f"{hours} h"
    return f"{round(whole / 86_400)} d"


def percent(ratio: float, decimals: int = 0) -> str:
    """A share as the language writes it: ``12.5%``, ``12,5 %``."""
    form: str = spoken().locale.percent_formats[None].pattern  # "#,##0 %" with the sign where it belongs
    return form.replace("#,##0", spoken().number(ratio * 100, decimals))


def clock(at: datetime | pd.Timestamp, zone: ZoneInfo, *, now: datetime | None = None) -> str:
    """A time of day in the site's zone; with the date when that is not today's."""
    local, today = at.astimezone(zone), (now or datetime.now(UTC)).astimezone(zone)
    return f"{local:%H:%M:%S}" if local.date() == today.date() else f"{local:%Y-%m-%d %H:%M}"


def offset(at: datetime | pd.Timestamp, zone: ZoneInfo) -> str:
    """The zone's distance from UTC at an instant: ``UTC-03:00``."""
    text = f"{at.astimezone(zone):%z}"
    return f"UTC{text[:3]}:{text[3:]}"


def throttle(bits: float | None) -> str:
    """Why clocks are held down, in words; ``none`` was measured, ``unknown`` was not."""
    if bits is None or pd.isna(bits):
        return say("unknown")
    reasons = Throttle(int(bits)) & ~Throttle.IDLE
    known = [say(words) for reason, words in _THROTTLE_WORDS.items() if reason in reasons]
    return ", ".join(known) or say("none")
