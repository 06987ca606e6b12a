"""What keys of the summary are called, as English texts that the catalogues translate."""

from __future__ import annotations

from collections.abc import Mapping

from analytics.formulas.energy import Quality
from analytics.ledger import LINES
from analytics.wastes.waste import Kind
from analytics.weekly import Reason
from core.language import _

FIGURES: Mapping[str, str] = {
    "total_usd": _("Total cost"),
    "usd_per_million_output_tokens": _("Cost per million output tokens"),
    "usd_per_million_tokens": _("per million tokens, prompts included"),
    "output_tokens": _("Output tokens"),
    "prompt_tokens": _("prompt tokens"),
    "cached_ratio": _("of prompt tokens from the cache"),
    "attained_ratio": _("Requests within their objective"),
    "requests": _("requests"),
    "ttft_p95_seconds": _("Time to first token, p95"),
    "tpot_p95_seconds": _("time per output token, p95"),
    "used_ratio": _("GPU-hours used"),
    "used_gpu_hours": _("used"),
    "allocated_gpu_hours": _("allocated"),
    "available_gpu_hours": _("available"),
    "idle_usd": _("Cost while idle"),
    "idle_ratio": _("of the total cost"),
    "kwh": _("Energy"),
    "joules_per_output_token": _("per output token"),
    "grams_per_million_output_tokens": _("Operational CO2e per million output tokens"),
    "commitment_used_ratio": _("Commitments used"),
    "month_end_usd": _("Forecast for the month"),
    "covered_ratio": _("Data coverage"),
}
REASONS: Mapping[Reason, str] = {
    Reason.NO_DATA: _("no data"),
    Reason.LITTLE_SEEN: _("less than half of the time was seen"),
    Reason.NO_PRICE: _("no hardware price: set one"),
    Reason.NO_TARIFF: _("no electricity price: set one"),
    Reason.NO_RATE: _("no exchange rate: set one"),
    Reason.NO_ENERGY: _("no energy reading"),
    Reason.NO_TOKENS: _("no tokens"),
    Reason.FEW_TOKENS: _("small sample"),
    Reason.NOT_COUNTED: _("no server counts them"),
    Reason.NO_OBJECTIVE: _("no objective is set"),
    Reason.FEW_REQUESTS: _("fewer than 100 requests"),
    Reason.NO_LATENCY: _("too few observations of latency"),
    Reason.NO_GRID_FACTOR: _("no grid factor: set one, or the country"),
    Reason.NO_CONTRACT: _("no contract"),
    Reason.NOT_SEEN: _("nothing that it pays for was seen"),
    Reason.NO_HOSTED_PRICE: _("no hosted price: set one"),
    Reason.FEW_DAYS: _("needs seven whole days with a known cost"),
    Reason.NO_TOKENS_OF_ERRORS: _("no server counts the tokens of failed requests"),
    Reason.USE_UNKNOWN: _("what was used is not known"),
    Reason.AMOUNT_UNKNOWN: _("what it costs is not known"),
}
QUALITIES: Mapping[Quality, str] = {
    Quality.MEASURED: _("measured"),
    Quality.DERIVED: _("derived"),
    Quality.ESTIMATED: _("estimated"),
    Quality.MISSING: _("unknown"),
}
COST_LINES: Mapping[str, str] = dict(
    zip(LINES, (_("hardware"), _("electricity, active"), _("electricity, idle"), _("overhead")), strict=True)
)
SCOPES: Mapping[str, str] = {
    "meter": _("at the meter, by the PUE of each site"),
    "device": _("accelerators and CPU packages only, host and cooling not included"),
    "mixed": _("at the meter where a site has a PUE, elsewhere of devices only"),
}
WASTES: Mapping[Kind, str] = {
    Kind.PARKED: _("Model loaded, and no request for a day or more"),
    Kind.FREE: _("Accelerators without a process for a day or more"),
    Kind.SPARE_REPLICA: _("One replica more than the peak needed"),
    Kind.TROUGH: _("Hardly any work at the same hours of three days or more"),
    Kind.LOW_CACHE: _("Fewer cache hits than in the best month"),
    Kind.WRONG_TIER: _("A hosted endpoint costs less"),
    Kind.COMMITMENT: _("Commitment used less than 80 %"),
    Kind.IDLE_POWER: _("Much of the energy was drawn while idle"),
    Kind.ERRORS: _("Many requests failed or were cancelled"),
    Kind.DEAR_HOURS: _("Work that can wait ran in dear hours"),
}
ACTIONS: Mapping[Kind, str] = {
    Kind.PARKED: _("Unload {what}, or start it on demand"),
    Kind.FREE: _("Give back {what}, switch off, or use for other work"),
    Kind.SPARE_REPLICA: _("Run one replica of {what} less"),
    Kind.TROUGH: _("Stop {what} in the hours that recur without work"),
    Kind.LOW_CACHE: _("Look at why prompts of {what} find less in the cache"),
    Kind.WRONG_TIER: _("Try a hosted endpoint for {what}"),
    Kind.COMMITMENT: _("Move work onto {what}"),
    Kind.IDLE_POWER: _("Let accelerators on {what} sleep while they have no work"),
    Kind.ERRORS: _("Look at why requests to {what} fail"),
    Kind.DEAR_HOURS: _("Move work of {what} to cheaper hours"),
}
UNDOING: Mapping[Kind, str] = {
    Kind.PARKED: _("load it again"),
    Kind.FREE: _("switch on, or rent again"),
    Kind.SPARE_REPLICA: _("start the replica again"),
    Kind.TROUGH: _("leave it running again"),
    Kind.LOW_CACHE: _("restore the former routing"),
    Kind.WRONG_TIER: _("send requests to the own servers again"),
    Kind.COMMITMENT: _("move it back"),
    Kind.IDLE_POWER: _("keep them awake again"),
    Kind.ERRORS: _("restore the former settings"),
    Kind.DEAR_HOURS: _("start it at any hour again"),
}
RISKS: Mapping[str, str] = {
    "none": _("none for latency"),
    "cold_start": _("the first request waits for the load"),
    "peaks": _("longer queues at peaks"),
    "other_path": _("another network path and other limits"),
    "wake_up": _("the first request after sleep waits"),
    "later": _("results come later"),
}
EVIDENCE: Mapping[str, str] = {
    "device_hours": _("device-hours"),
    "days": _("days"),
    "used_ratio": _("used"),
    "replicas": _("replicas"),
    "needed_requests": _("requests at once at the peak"),
    "carried_requests": _("requests that one replica carried"),
    "hit_ratio": _("cache hits"),
    "best_month_hit_ratio": _("in the best month"),
    "own_usd": _("own cost"),
    "hosted_usd": _("hosted cost"),
    "amortised_usd": _("its cost in the week"),
    "idle_energy_ratio": _("of the energy while idle"),
    "idle_kwh": _("kWh while idle"),
    "requests": _("requests"),
    "failed_requests": _("failed"),
    "aborted_requests": _("cancelled"),
    "kwh": _("kWh"),
    "usd_per_kwh": _("paid per kWh"),
    "valley_usd_per_kwh": _("lowest price per kWh"),
}
UNIT_PRICE_EFFECTS: Mapping[str, tuple[str, str]] = {
    "hourly_price_usd": (_("a dearer GPU-hour"), _("a cheaper GPU-hour")),
    "utilization_usd": (_("fewer of the GPU-hours used"), _("more of the GPU-hours used")),
    "throughput_usd": (_("fewer tokens in a used GPU-hour"), _("more tokens in a used GPU-hour")),
}
"""What made a unit price rise, and what made it fall."""
