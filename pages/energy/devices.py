"""Tables: energy of each device, whether its meters agree, and what that makes at each site."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd
import streamlit as st

from analytics.formulas.energy import SANE
from analytics.power import SiteEnergy
from core.language import _, say
from core.texts import significant
from core.units import JOULES_PER_KWH
from pages.energy.courses import whole_hours
from pages.energy.figures import STATE_OF
from pages.energy.subject import site_called
from pages.shared.columns import number
from pages.shared.filters import View
from pages.shared.tables import table

_TITLES = {
    "device": _("device"),
    "source": _("source"),
    "label": _("label"),
    "of_limit_ratio": _("mean of limit"),
    "coverage_ratio": _("observed"),
    "verdict": _("verdict"),
    "used": _("used"),
    "host": _("host"),
    "site": _("site"),
    "vendor": _("vendor"),
    "model": _("model"),
    "factor_from": _("factor from"),
}
_STATE_TITLES = (
    _("Active (kWh)"),
    _("Parked (kWh)"),
    _("Free (kWh)"),
    _("Not attributed (kWh)"),
)
_AGREE, _FEWER, _DOUBTFUL = _("agree"), _("fewer than two meters"), _("⚠ counter not believed")


def devices_table(energy: pd.DataFrame, by_state: pd.DataFrame, view: View) -> None:
    """Energy of each device over the window; of accelerators also by state, over its whole hours."""
    st.markdown("##### " + say("Devices"))
    frame = pd.DataFrame(
        {
            "device": energy["name"],
            "energy_kwh": energy["energy_joules"] / JOULES_PER_KWH,
            "mean_watts": energy["mean_watts"],
            "of_limit_ratio": energy["mean_watts"] / energy["power_limit_watts"],
            "source": energy["energy_label"],
            "label": energy["quality"],
            "coverage_ratio": energy["coverage_ratio"],
        }
    )
    columns: dict[str, Any] = {
        "energy_kwh": number(say("Energy (kWh)"), 3),
        "mean_watts": number(say("Mean (W)"), 0),
    }
    told = say("{window}, since its first sample.", window=view.words)
    if (energy["family"] == "accelerator").all():
        sums = by_state.set_index("entity_id").reindex(energy["entity_id"])
        for portion, title in zip(STATE_OF, _STATE_TITLES, strict=True):
            name = portion.replace("_joules", "_kwh")
            frame[name] = (sums[portion] / JOULES_PER_KWH).to_numpy()
            columns[name] = number(say(title), 3)
        told = say(
            "Energy, mean and what was observed: {window}, since its first sample. By state: {hours}.",
            window=view.words,
            hours=whole_hours(view),
        )
    frame = frame.assign(**{name: energy[name] for name in ("host", "site", "vendor", "model")})
    table(frame, view, key="energy-devices", titles=_TITLES, columns=columns, said=("source", "label"))
    st.caption(told)


def meters_table(energy: pd.DataFrame, view: View) -> None:
    """Counter and integrated power of each device, and which of them counts."""
    explained = say(
        "The device's energy counter against its power samples, integrated; both over this window. Where their mean "
        "powers differ by more than {times} times, the counter is not believed and the samples count.",
        times=significant(SANE[1]),
    )
    st.markdown("##### " + say("Do the meters agree?"), help=explained)
    agreement = energy["counter_over_samples"].notna().map({True: _AGREE, False: _FEWER})
    frame = pd.DataFrame(
        {
            "device": energy["name"],
            "counter_kwh": energy["counter_joules"] / JOULES_PER_KWH,
            "samples_kwh": energy["sampled_joules"] / JOULES_PER_KWH,
            "counter_over_samples": energy["counter_over_samples"],
            "verdict": agreement.mask(energy["is_doubtful"], _DOUBTFUL),
            "used": energy["energy_label"],
            "host": energy["host"],
        }
    )
    columns = {
        "counter_kwh": number(say("By counter (kWh)"), 3),
        "samples_kwh": number(say("By power samples (kWh)"), 3),
        "counter_over_samples": number(say("Counter / samples"), 3),
    }
    table(frame, view, key="energy-meters", titles=_TITLES, columns=columns, said=("verdict", "used"))


def sites_table(sites: Sequence[SiteEnergy], view: View) -> None:
    """Each site with its PUE and grid factor, where there are several."""
    if len(sites) < 2:
        return
    st.markdown("##### " + say("Sites"))
    numbers = {
        "energy_kwh": [site.kwh for site in sites],
        "pue": [site.pue_ratio for site in sites],
        "meter_kwh": [site.meter_kwh for site in sites],
        "grid_gco2e_per_kwh": [None if site.factor is None else site.factor.grams_per_kwh for site in sites],
        "operational_gco2e": [site.grams for site in sites],
    }
    frame = pd.DataFrame(
        {
            "site": [site_called(site.name) for site in sites],
            **{name: pd.Series(values, dtype="float64") for name, values in numbers.items()},
            "factor_from": [say("missing") if site.factor is None else str(site.factor.source) for site in sites],
            "label": [site.grams_quality.value for site in sites],
        }
    )
    columns = {
        "energy_kwh": number(say("Energy (kWh)"), 3),
        "pue": number("PUE", 2),
        "meter_kwh": number(say("At the meter (kWh)"), 3),
        "grid_gco2e_per_kwh": number(say("Grid (g CO2e/kWh)"), 1),
        "operational_gco2e": number(say("Operational (g CO2e)"), 0),
    }
    titles = _TITLES | {"label": _("label of emissions")}
    table(frame, view, key="energy-sites", titles=titles, columns=columns, said=("label",))
