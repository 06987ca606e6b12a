"""What deployments did in the whole of a window, read once for all figures of the latency page."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd

from analytics.latency import quantiles_by
from analytics.objectives import KINDS, Kept, kept_by, objective_of
from core.language import _
from core.readings import Latency
from core.settings import Objective
from pages.shared import loaders, things
from pages.shared.filters import View
from pages.shared.store import settings

SHOWN = (Latency.TTFT.value, Latency.ITL.value)
OUTCOMES = (_("succeeded"), _("failed"), _("aborted"), _("rejected"))
ENDED = {name: f"{name}_requests_total" for name in OUTCOMES}


@dataclass(frozen=True, slots=True)
class Seen:
    """What ``queries.latency`` gives per deployment and kind, and increases of the counters of ``ENDED``.

    ``seconds``: length of the window.
    """

    histograms: pd.DataFrame
    counts: pd.DataFrame
    seconds: float

    def of(self, ids: Sequence[int]) -> Seen:
        """The part of some deployments."""
        histograms, counts = (frame[frame["entity_id"].isin(ids)] for frame in (self.histograms, self.counts))
        return Seen(histograms, counts, self.seconds)

    def quantiles(self) -> pd.DataFrame:
        """Quantiles of each of them by itself, by entity and kind; no row where nothing was observed."""
        return quantiles_by(self.histograms, ["entity_id", "kind"]).set_index(["entity_id", "kind"])

    def kept(self, objective: Objective) -> Kept:
        """How all of them, taken together, kept an objective."""
        return kept_by(objective, self.histograms, self.counts, self.seconds)


def seen(deployments: pd.DataFrame, view: View) -> Seen:
    """What deployments did in the window. Of those that nothing is promised of, only what every one shows."""
    window = (view.start_ms, view.end_ms)
    objectives = settings().serving.objective
    promised = [objective_of(str(model or ""), objectives) is not None for model in deployments["model"]]
    more = tuple(kind for kind in KINDS if kind not in SHOWN)
    return Seen(
        pd.concat(
            [
                loaders.histograms(things.ids(deployments), SHOWN, *window),
                loaders.histograms(things.ids(deployments[promised]), more, *window),
            ]
        ),
        loaders.increases("deployment", tuple(ENDED.values()), things.ids(deployments), *window),
        (view.end_ms - view.start_ms) / 1000,
    )
