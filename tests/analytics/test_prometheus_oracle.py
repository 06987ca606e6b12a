"""Prometheus itself as the judge of quantiles, through ``promtool test rules`` where it is installed."""

from __future__ import annotations

import json
import math
import random
import shutil
import subprocess
from fractions import Fraction
from pathlib import Path

import pytest

from analytics.formulas.latency import histogram_quantile

QUANTILES = (0.5, 0.95, 0.99)
PROMTOOL = shutil.which("promtool")


def by_hand(q: Fraction, bounds: list[Fraction], increments: list[int]) -> Fraction:
    """The definition, in exact arithmetic; ``bounds`` are the finite ones."""
    rank, cumulative, lower = q * sum(increments), 0, Fraction(0)
    for bound, count in zip(bounds, increments, strict=False):
        if cumulative + count >= rank:
            return lower + (bound - lower) * (rank - cumulative) / count
        cumulative, lower = cumulative + count, bound
    return bounds[-1]


@pytest.mark.parametrize(
    ("bounds", "increments"),
    [
        (["0.1", "0.25", "0.5", "1", "2.5"], [120, 360, 300, 150, 55, 15]),
        (["0.3", "0.5", "0.8"], [0, 7, 0, 93]),
        (["0.001", "0.005", "10"], [1, 0, 999999, 0]),
        (["1"], [3, 1]),
    ],
)
def test_hand_made_buckets_to_a_billionth(bounds: list[str], increments: list[int]):
    for q in QUANTILES:
        expected = by_hand(Fraction(str(q)), [Fraction(b) for b in bounds], increments)
        found = histogram_quantile(q, [*map(float, bounds), math.inf], increments)
        assert found == pytest.approx(float(expected), rel=1e-9)


def random_histogram(rng: random.Random) -> tuple[list[float], list[int]]:
    bounds = sorted({round(rng.expovariate(1) + 0.001, 4) for _ in range(rng.randint(1, 18))})
    increments = [rng.choice((0, rng.randint(0, 10), rng.randint(0, 10_000))) for _ in range(len(bounds) + 1)]
    return bounds, increments if any(increments) else [1] * len(increments)


@pytest.mark.skipif(PROMTOOL is None, reason="promtool is not installed (Debian: prometheus)")
def test_promtool_agrees_on_random_histograms(tmp_path: Path):
    rng = random.Random(20)
    series, checks = [], []
    for number in range(60):
        bounds, increments = random_histogram(rng)
        cumulative = 0
        for bound, count in zip([*map(str, bounds), "+Inf"], increments, strict=True):
            cumulative += count
            series.append({"series": f'h_bucket{{n="{number}",le="{bound}"}}', "values": str(cumulative)})
        for q in QUANTILES:
            # promtool compares exactly, so the difference is what it is asked about
            ours = histogram_quantile(q, [*bounds, math.inf], increments)
            difference = f'abs(histogram_quantile({q}, h_bucket{{n="{number}"}}) / {ours!r} - 1) < bool 1e-9'
            checks.append(
                {"expr": difference, "eval_time": "0s", "exp_samples": [{"labels": f'{{n="{number}"}}', "value": 1}]}
            )
    test = {
        "evaluation_interval": "1m",
        "tests": [{"interval": "1m", "input_series": series, "promql_expr_test": checks}],
    }
    (tmp_path / "quantiles.yml").write_text(json.dumps(test))
    ran = subprocess.run(
        [str(PROMTOOL), "test", "rules", "quantiles.yml"], cwd=tmp_path, capture_output=True, text=True
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
