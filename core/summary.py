"""The weekly summary in the settings: when it is sent, to whom, who owns what, and what is known and left alone."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, field_validator

from core.section import Day, Name, Section, VariableName
from core.sites import Weekday

SummaryFormat = Literal["pdf", "html", "xlsx", "csv", "json"]


class Delivery(Section):
    """Somebody who gets the summary of each week. The address may hold a password, so it is never in the file."""

    name: Name
    url_env: VariableName
    language: Annotated[str, Field(pattern=r"^[a-z]{2}([_-][A-Z]{2})?$")] = "en"
    format: tuple[SummaryFormat, ...] = ("pdf",)


class Owner(Section):
    """Who answers for wastes of what a pattern names: a model, a host, a site or a contract."""

    match: Name
    owner: Name


class Muted(Section):
    """A waste that is known and wanted: it is left out of the list until a day, and counted as muted."""

    kind: Name = "*"
    match: Name
    reason: Name
    until: Day


class SummarySettings(Section):
    """When the week is made and sent."""

    enabled: bool = True
    weekday: Weekday = "mon"
    hour: Annotated[int, Field(ge=0, le=23)] = 7
    deliver: tuple[Delivery, ...] = ()
    owner: tuple[Owner, ...] = ()
    muted: tuple[Muted, ...] = ()

    @field_validator("deliver")
    @classmethod
    def _told_apart(cls, deliveries: tuple[Delivery, ...]) -> tuple[Delivery, ...]:
        if len({one.name for one in deliveries}) < len(deliveries):
            raise ValueError("expected a different name in every [[summary.deliver]]")
        return deliveries
