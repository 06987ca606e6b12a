"""What the latency page is about: one deployment, or all deployments of a model taken together."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass
from typing import Any

import pandas as pd

from analytics.objectives import objective_of
from core.language import say, spoken
from core.settings import Objective
from pages.shared import loaders
from pages.shared.filters import View
from pages.shared.store import settings

Row = dict[Hashable, Any]


@dataclass(frozen=True, slots=True)
class Subject:
    """Deployments whose requests are looked at as those of one server. ``rows`` are of ``things.deployments``."""

    key: str
    name: str
    model: str
    rows: tuple[Row, ...]

    @property
    def ids(self) -> tuple[int, ...]:
        """Their entities."""
        return tuple(int(row["entity_id"]) for row in self.rows)

    def involved(self, view: View) -> tuple[int, ...]:
        """They, and what they ran on within the window."""
        used = loaders.assignments(view.start_ms, view.end_ms)
        targets = used.loc[used["deployment_id"].isin(self.ids), "target_id"].unique()
        return (*self.ids, *(int(target) for target in targets))

    @property
    def engines(self) -> str:
        """The software that serves."""
        return ", ".join(dict.fromkeys(str(row["labels"].get("engine", say("this server"))) for row in self.rows))

    @property
    def objective(self) -> Objective | None:
        """What is promised of the model."""
        return objective_of(self.model, settings().serving.objective)


def subjects(deployments: pd.DataFrame) -> list[Subject]:
    """Models with several deployments first, then each deployment. A gateway would count requests twice."""
    records = deployments.to_dict("records")
    models: dict[str, list[Row]] = {}
    for row in records:
        if row["model"] and not row["gateway"]:
            models.setdefault(str(row["model"]), []).append(row)
    return [
        *(
            Subject(
                f"model {model}",
                say("{model}: all {count} deployments", model=model, count=spoken().number(len(rows))),
                model,
                tuple(rows),
            )
            for model, rows in models.items()
            if len(rows) > 1
        ),
        *(Subject(str(row["entity_id"]), str(row["name"]), str(row["model"] or ""), (row,)) for row in records),
    ]
