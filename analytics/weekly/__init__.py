"""The weekly summary as data: what a manager reads on Monday, in keys and numbers, without a word of any language.

``reports`` and the weekly page put it into words. Comparisons are with the week before, over as many hours as this one
has had so far; amounts that add up over time are compared per hour, so that a week of 167 or 169 hours is like others.
"""

from analytics.weekly.figure import MONEY, Figure, Headline, Unit
from analytics.weekly.read import begun_ms_of, weekly_summary
from analytics.weekly.reasons import Reason, Why, why_unknown
from analytics.weekly.summary import (
    Action,
    Assumptions,
    ContractUse,
    CostRow,
    DataQuality,
    Day,
    Effort,
    Exchange,
    Followed,
    Inputs,
    ModelCost,
    Percentile,
    Promise,
    WasteRecord,
    WeeklySummary,
)
from analytics.weekly.week import week_span

__all__ = [
    "MONEY",
    "Action",
    "Assumptions",
    "ContractUse",
    "CostRow",
    "DataQuality",
    "Day",
    "Effort",
    "Exchange",
    "Figure",
    "Followed",
    "Headline",
    "Inputs",
    "ModelCost",
    "Percentile",
    "Promise",
    "Reason",
    "Unit",
    "WasteRecord",
    "WeeklySummary",
    "Why",
    "begun_ms_of",
    "week_span",
    "weekly_summary",
    "why_unknown",
]
