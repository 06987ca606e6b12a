"""What a power page is about: accelerators, and where there are none, CPU packages; each with its scope in words."""

from __future__ import annotations

from dataclasses import dataclass

import pandas as pd

from analytics.power import Course, incomplete_steps
from analytics.prices import site_of
from core.language import _, say, spoken
from core.sites import Place
from pages.shared import things, watts
from pages.shared.filters import View
from pages.shared.store import settings

GROUPS = (_("model"), _("vendor"), _("host"), _("site"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """Things of one family and one scope of power; ``frame`` has their newest samples and a column per group.

    ``what`` they are and the ``scope`` are said.
    """

    family: str
    metric: str
    frame: pd.DataFrame
    what: str
    scope: str
    sources: tuple[str, ...]

    @property
    def ids(self) -> tuple[int, ...]:
        """The entities, as loaders take them."""
        return things.ids(self.frame)

    @property
    def hosts(self) -> list[str]:
        """Where they are."""
        return [str(host) for host in self.frame["host"].unique()]

    def power(self, view: View, by: str) -> tuple[pd.DataFrame, Course]:
        """``bucket_at``, ``series`` and the metric, per step and group by a column; and what that was made of."""
        return watts.over_time(self.family, self.metric, self.frame, by, view)

    def unseen(self, course: Course) -> pd.DataFrame:
        """Steps in which some were silent, as charts take them."""
        steps = incomplete_steps(course, self.frame.set_index("entity_id")["first_seen_at"])
        said = [
            say("{number} of {all} report", number=spoken().number(n), all=spoken().number(of))
            for n, of in zip(steps["reporting"], steps["expected"], strict=True)
        ]
        return pd.DataFrame({"bucket_at": steps.index, "said": pd.Series(said, dtype="str")})


def accelerators(view: View) -> Subject:
    """Boards and modules by their own meters; slices are parts of them."""
    return Subject(
        family="accelerator",
        metric="power_watts",
        frame=_placed(things.whole(things.accelerators(view)), say("unnamed accelerator")),
        what=say("accelerators"),
        scope=say("accelerators only: host and cooling not included"),
        sources=("nvidia", "amd"),
    )


def packages(view: View) -> Subject:
    """CPU packages by their own meters."""
    return Subject(
        family="cpu",
        metric="power_watts",
        frame=_placed(things.sockets(view), say("unnamed CPU")),
        what=say("CPU packages"),
        scope=say("CPU packages only: memory, fans and the rest of the host not included"),
        sources=("cpu", "epyc"),
    )


def nodes(view: View) -> Subject:
    """Whole hosts at the supply, what is in them included."""
    return Subject(
        family="host",
        metric="node_power_watts",
        frame=_placed(things.hosts(view), say("unnamed host")),
        what=say("nodes"),
        scope=say("whole nodes at the supply: accelerators and CPU packages are inside; cooling is not included"),
        sources=("host",),
    )


def site_called(name: str) -> str:
    """What a site is called: one that nobody gave a name, in the visitor's language."""
    return say("this site") if name == Place.model_fields["name"].default else name


def _placed(frame: pd.DataFrame, unnamed: str) -> pd.DataFrame:
    """With the site of each, its model without the vendor's name before it, and a word where either is not known."""
    current = settings()
    sites = {host: site_called(site_of(current, host).place.name) for host in frame["host"].unique()}
    named = frame.assign(site=frame["host"].map(sites))
    named = named.assign(vendor=named["vendor"].fillna(say("unknown vendor")), model=named["model"].fillna(unnamed))
    models = [model.removeprefix(f"{vendor} ") for vendor, model in zip(named["vendor"], named["model"], strict=True)]
    return named.assign(model=pd.Series(models, index=named.index, dtype="str"))
