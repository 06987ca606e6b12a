"""What every figure ought to be: sums over raw samples and bills made of them."""

from __future__ import annotations

from functools import cache

from core.readings import Latency
from tests.truth import reckoned
from tests.truth.demo import DAY
from tests.truth.raw import Raw, Thing
from tests.truth.reckoned import JOULES_PER_KWH, MXN, CardHour, quantile, within

CHAT = "meta-llama/Llama-2-70b-chat-hf"
RENTED = "deepseek-ai/DeepSeek-R1"
STEP_MS = 60_000
SEEN = (DAY[0] - STEP_MS, DAY[1] - STEP_MS)
"""Pages of a window count what its samples tell, and each sample tells of the minute before it."""


class Truth:
    """What is in a demo's store, with the bills that several figures are made of."""

    def __init__(self, raw: Raw) -> None:
        self.raw = raw
        self.bill = cache(lambda window: reckoned.bill(raw, *window))
        self.histogram = cache(lambda kind, window, models=None: raw.histogram(models, kind.value, *window))

    def held(self, window: tuple[int, int]) -> list[CardHour]:
        """What servers are charged for."""
        return [row for row in self.bill(window) if self.raw.server_of(row.card) is not None]

    def counted(self, counter: str, window: tuple[int, int], **labels: str) -> float:
        """What counters of servers grew by, all together."""
        servers = self.raw.things("deployment", **labels)
        return sum(self.raw.grown(one, "deployment", counter, *window) for one in servers)

    def output(self, window: tuple[int, int]) -> float:
        return self.counted("generation_tokens_total", window)

    def device_kwh(self, window: tuple[int, int], to_meter: bool = False) -> dict[str, float]:
        """Of accelerators alone, by host."""
        found: dict[str, float] = {}
        for card in self.raw.things("accelerator"):
            factor = reckoned.pue_ratio(card.host) if to_meter else 1.0
            joules = self.raw.grown(card, "accelerator", "energy_joules_total", *window)
            found[card.host] = found.get(card.host, 0.0) + joules / JOULES_PER_KWH * factor
        return found

    def idle_kwh(self) -> float:
        cards = self.raw.things("accelerator")
        steps = (step for card in cards for step in self.raw.steps(card, *DAY))
        return sum(step.joules for step in steps if step.state != "active") / JOULES_PER_KWH

    def hot(self) -> Thing:
        """The accelerator that protects itself: the last sample lies in the incident, when no other H100 is as hot."""
        cards = self.raw.things("accelerator", vendor="NVIDIA")
        return max(cards, key=lambda card: self.raw.newest_of(card, "accelerator", "temperature_celsius"))

    def device_grams(self) -> float:
        """Of accelerators alone, at the meter."""
        used = self.device_kwh(SEEN, to_meter=True)
        return sum(amount * reckoned.grams_per_kwh(host) for host, amount in used.items())

    def hottest(self) -> float:
        metrics = ("temperature_celsius", "memory_temperature_celsius")
        return max(v for name in metrics for v in self.raw.newest("accelerator", name) if v is not None)

    def now(self, family: str, metric: str = "power_watts") -> float:
        """The last samples of all together."""
        return sum(self.raw.newest(family, metric))

    def mean(self, family: str, metric: str) -> float:
        values = self.raw.newest(family, metric)
        return sum(values) / len(values)

    def chat(self, q: float, kind: Latency) -> float:
        return quantile(q, self.histogram(kind, SEEN, frozenset({CHAT})))

    def observed(self, kind: Latency) -> float:
        return sum(count for _, count in self.histogram(kind, SEEN, frozenset({CHAT})))

    def in_time(self, kind: Latency, seconds: float) -> float:
        failed = self.counted("failed_requests_total", SEEN, model=CHAT)
        return within(seconds, self.histogram(kind, SEEN, frozenset({CHAT}))) / (self.observed(kind) + failed)

    def cached(self, window: tuple[int, int], **labels: str) -> float:
        looked_up = self.counted("prompt_tokens_total", window, **labels)
        return self.counted("cached_prompt_tokens_total", window, **labels) / looked_up

    def tokens(self, window: tuple[int, int]) -> float:
        return self.output(window) + self.counted("prompt_tokens_total", window)

    def speed(self) -> float:
        return 1 / quantile(0.5, self.raw.histogram({RENTED}, "tpot", *SEEN))

    def rented_joules_per_token(self) -> float:
        joules = device_joules([row for row in self.bill(DAY) if row.card.host == "simulated-br-cloud-1"])
        return joules / self.counted("generation_tokens_total", DAY, model=RENTED)

    def hall_ratio(self, window: tuple[int, int]) -> float:
        return kwh(reckoned.hall(self.bill(window))) / 1000 / reckoned.delivered_mwh(*window)

    def hall_mxn_per_mwh(self) -> float:
        return reckoned.contract_usd(*DAY) * MXN / kwh(reckoned.hall(self.bill(DAY))) * 1000

    def idle_mxn(self, window: tuple[int, int]) -> float:
        """Hardware and electricity of the time without work; no overhead."""
        rows = self.bill(window)
        return mxn(sum(row.hardware_usd * (1 - row.active_hours) + row.idle_usd for row in rows))

    def grams(self, window: tuple[int, int]) -> float:
        return sum(row.kwh * reckoned.grams_per_kwh(row.card.host) for row in self.bill(window))


def mxn(usd: float) -> float:
    """As people read amounts of the demo."""
    return usd * MXN


def kwh(rows: list[CardHour]) -> float:
    """At the meter."""
    return sum(row.kwh for row in rows)


def device_joules(rows: list[CardHour]) -> float:
    """Of cards with their part of the sockets, without cooling."""
    return sum(row.kwh / reckoned.pue_ratio(row.card.host) for row in rows) * JOULES_PER_KWH


def total(rows: list[CardHour]) -> float:
    return mxn(sum(row.total_usd for row in rows))
