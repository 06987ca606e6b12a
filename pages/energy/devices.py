"""Tables: energy of each device, whether its meters agree, and what that makes at each site."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd
import streamlit as st

from analytics.formulas.energy import SANE
from analytics.power import PORTIONS, SiteEnergy
from core.units import JOULES_PER_KWH
from pages.energy.courses import whole_hours
from pages.energy.figures import STATE_OF
from pages.shared.filters import View
from pages.shared.tables import table

_CHECK_HELP = (
    "The device's energy counter against its power samples, integrated; both over this window. Where their mean powers "
    f"differ by more than {SANE[1]:g} times, the counter is not believed and the samples count."
)
_NUMBER = st.column_config.NumberColumn


def devices_table(energy: pd.DataFrame, hours: pd.DataFrame, view: View) -> None:
    """Energy of each device over the window; of accelerators also by state, over its whole hours."""
    st.markdown("##### Devices")
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
        "device": st.column_config.TextColumn("Device", width="medium"),
        "energy_kwh": _NUMBER("Energy (kWh)", format="%.3f"),
        "mean_watts": _NUMBER("Mean (W)", format="%.0f"),
    }
    said = f"{view.words}, since its first sample."
    if (energy["family"] == "accelerator").all():
        sums = hours.groupby("entity_id")[list(PORTIONS)].sum(min_count=1).reindex(energy["entity_id"])
        for portion, state in STATE_OF.items():
            name = portion.replace("_joules", "_kwh")
            frame[name] = (sums[portion] / JOULES_PER_KWH).to_numpy()
            columns[name] = _NUMBER(f"{state.capitalize()} (kWh)", format="%.3f")
        said = f"Energy, mean and what was observed: {said} By state: {whole_hours(view)}."
    frame = frame.assign(**{name: energy[name] for name in ("host", "site", "vendor", "model")})
    titles = {"of_limit_ratio": "mean of limit", "coverage_ratio": "observed"}
    table(frame, view, key="energy-devices", titles=titles, columns=columns)
    st.caption(said)


def meters_table(energy: pd.DataFrame, view: View) -> None:
    """Counter and integrated power of each device, and which of them counts."""
    st.markdown("##### Do the meters agree?", help=_CHECK_HELP)
    agreement = energy["counter_over_samples"].notna().map({True: "agree", False: "fewer than two meters"})
    frame = pd.DataFrame(
        {
            "device": energy["name"],
            "counter_kwh": energy["counter_joules"] / JOULES_PER_KWH,
            "samples_kwh": energy["sampled_joules"] / JOULES_PER_KWH,
            "counter_over_samples": energy["counter_over_samples"],
            "verdict": agreement.mask(energy["is_doubtful"], "⚠ counter not believed"),
            "used": energy["energy_label"],
            "host": energy["host"],
        }
    )
    columns = {
        "counter_kwh": _NUMBER("By counter (kWh)", format="%.3f"),
        "samples_kwh": _NUMBER("By power samples (kWh)", format="%.3f"),
        "counter_over_samples": _NUMBER("Counter / samples", format="%.3f"),
    }
    table(frame, view, key="energy-meters", columns=columns)


def sites_table(sites: Sequence[SiteEnergy], view: View) -> None:
    """Each site with its PUE and grid factor, where there are several."""
    if len(sites) < 2:
        return
    st.markdown("##### Sites")
    numbers = {
        "energy_kwh": [site.kwh for site in sites],
        "pue": [site.pue_ratio for site in sites],
        "meter_kwh": [site.meter_kwh for site in sites],
        "grid_gco2e_per_kwh": [None if site.factor is None else site.factor.grams_per_kwh for site in sites],
        "operational_gco2e": [site.grams for site in sites],
    }
    frame = pd.DataFrame(
        {
            "site": [site.name for site in sites],
            **{name: pd.Series(values, dtype="float64") for name, values in numbers.items()},
            "factor_from": ["missing" if site.factor is None else site.factor.source for site in sites],
            "label": [site.grams_quality.value for site in sites],
        }
    )
    columns = {
        "energy_kwh": _NUMBER("Energy (kWh)", format="%.3f"),
        "pue": _NUMBER("PUE", format="%.2f"),
        "meter_kwh": _NUMBER("At the meter (kWh)", format="%.3f"),
        "grid_gco2e_per_kwh": _NUMBER("Grid (g CO2e/kWh)", format="%.1f"),
        "operational_gco2e": _NUMBER("Operational (g CO2e)", format="%.0f"),
    }
    table(frame, view, key="energy-sites", titles={"label": "label of emissions"}, columns=columns)
