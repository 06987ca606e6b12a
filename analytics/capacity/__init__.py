"""How many accelerators and nodes hold a model, of each type, with the arithmetic to show. Nothing is forecast."""

from analytics.capacity.demand import Term
from analytics.capacity.hourly import hourly_prices
from analytics.capacity.output import DAYS, Measured, measured
from analytics.capacity.plans import NO_BANDWIDTH, NO_NODE, NO_TDP, Memory, Plan, plan
from analytics.capacity.targets import Target, beside, towards

__all__ = [
    "DAYS",
    "NO_BANDWIDTH",
    "NO_NODE",
    "NO_TDP",
    "Measured",
    "Memory",
    "Plan",
    "Target",
    "Term",
    "beside",
    "hourly_prices",
    "measured",
    "plan",
    "towards",
]
