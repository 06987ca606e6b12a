"""What makers publish about accelerators, CPUs and endpoints: CSV files, and how a driver's name finds its row.

Figures are facts for sanity checks, denominators and labels: a TDP is a ceiling and never a reading.
Prices are hints with their origin, shown beside an empty price field and never used as a price. Each
row names where its figures come from; peaks are dense (no sparsity). An empty cell is ``None``.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

_GIGA = 1e9
_TERA = 1e12
_GIB = 1 << 30
_MIB = 1 << 20


@dataclass(frozen=True, slots=True)
class PriceHint:
    """A price somebody asked, in USD, with who and when; ``low`` may equal ``high``."""

    low: float
    high: float
    basis: str


@dataclass(frozen=True, slots=True, kw_only=True)
class AcceleratorModel:
    """One accelerator product. ``memory_bytes`` is nominal; a driver reports a few percent less."""

    vendor: str
    model: str
    name_pattern: re.Pattern[str] | None
    launch_year: int
    memory_bytes: int
    memory_bytes_per_second: float | None
    bf16_dense_flop_per_second: float | None
    fp8_dense_flop_per_second: float | None
    tdp_watts: float | None
    form_factor: str
    list_hint_usd: PriceHint | None
    rental_hint_usd_per_hour: PriceHint | None
    source: str
    notes: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CpuModel:
    """One CPU product. ``tdp_watts`` is the default; ``ctdp_*`` is the range a BIOS may set."""

    vendor: str
    model: str
    family_code: str
    series: str
    launch_year: int
    cores: int | None
    threads: int | None
    base_hertz: float | None
    boost_hertz: float | None
    tdp_watts: float
    ctdp_min_watts: float | None
    ctdp_max_watts: float | None
    l3_bytes: int | None
    list_hint_usd: PriceHint | None
    source: str
    notes: str


@dataclass(frozen=True, slots=True, kw_only=True)
class HostedEndpoint:
    """What somebody published of one model at one vendor's API: a point to hold own figures against, never a price."""

    vendor: str
    model: str
    tokens_per_second: float  # of output, as one user sees them
    usd_per_million_input_tokens: float
    usd_per_million_output_tokens: float
    as_of: str
    source: str
    notes: str


def match_accelerator(driver_name: str) -> AcceleratorModel | None:
    """The product that NVML or amdsmi names; ``None`` when no row, or more than one, fits.

    A slice (a MIG instance, a vGPU profile) has its parent's name in it but neither its memory nor
    its TDP, so it matches nothing: ask for the parent.
    """
    if _SLICE.search(driver_name):
        return None
    found = [m for m in accelerators() if m.name_pattern is not None and m.name_pattern.search(driver_name)]
    return found[0] if len(found) == 1 else None


def match_cpu(model_name: str) -> CpuModel | None:
    """The product that ``/proc/cpuinfo`` names, compared word for word.

    Parts made for one cloud (``EPYC 9R14``, ``Xeon 8480C``) and a bare ``AMD EPYC`` match nothing.
    """
    wanted = _plain_cpu_name(model_name)
    found = [m for m in cpus() if _plain_cpu_name(f"{m.vendor} {m.model}") == wanted]
    return found[0] if len(found) == 1 else None


@cache
def accelerators() -> tuple[AcceleratorModel, ...]:
    """Every row of ``accelerators.csv``."""
    return tuple(_accelerator(row) for row in rows("accelerators.csv"))


@cache
def cpus() -> tuple[CpuModel, ...]:
    """Every row of ``cpus.csv``."""
    return tuple(_cpu(row) for row in rows("cpus.csv"))


@cache
def endpoints() -> tuple[HostedEndpoint, ...]:
    """Every row of ``endpoints.csv``."""
    return tuple(_endpoint(row) for row in rows("endpoints.csv"))


_SLICE = re.compile(r"\bMIG\b|-\d+[ABCQ]$")  # "… MIG 1g.10gb", "A100-40C"
_CPU_FILLER = re.compile(r"\((?:r|tm)\)|\bcpu\b|\bprocessor\b|\b\d+-core\b|@.*$", re.IGNORECASE)


def _plain_cpu_name(name: str) -> str:
    """``AMD EPYC 9654 96-Core Processor`` and ``AMD EPYC 9654`` are the same part."""
    return " ".join(_CPU_FILLER.sub(" ", name).lower().split())


def rows(name: str) -> Iterator[dict[str, str]]:
    """The lines of one of the CSV files beside this module, by column."""
    with files("core.hardware").joinpath(name).open(encoding="utf-8") as file:
        yield from csv.DictReader(file, strict=True)


def _accelerator(row: Mapping[str, str]) -> AcceleratorModel:
    return AcceleratorModel(
        vendor=row["vendor"],
        model=row["model"],
        name_pattern=re.compile(row["name_pattern"]) if row["name_pattern"] else None,
        launch_year=int(row["launch_year"]),
        memory_bytes=round(float(row["memory_gib"]) * _GIB),
        memory_bytes_per_second=_scaled(row["memory_gb_per_second"], _GIGA),
        bf16_dense_flop_per_second=_scaled(row["bf16_dense_tflops"], _TERA),
        fp8_dense_flop_per_second=_scaled(row["fp8_dense_tflops"], _TERA),
        tdp_watts=_scaled(row["tdp_watts"]),
        form_factor=row["form_factor"],
        list_hint_usd=_hint(row["list_usd_low"], row["list_usd_high"], row["list_basis"]),
        rental_hint_usd_per_hour=_hint(
            row["rental_usd_per_hour_low"], row["rental_usd_per_hour_high"], row["rental_basis"]
        ),
        source=row["source"],
        notes=row["notes"],
    )


def _cpu(row: Mapping[str, str]) -> CpuModel:
    return CpuModel(
        vendor=row["vendor"],
        model=row["model"],
        family_code=row["family_code"],
        series=row["series"],
        launch_year=int(row["launch_year"]),
        cores=_count(row["cores"]),
        threads=_count(row["threads"]),
        base_hertz=_scaled(row["base_ghz"], _GIGA),
        boost_hertz=_scaled(row["boost_ghz"], _GIGA),
        tdp_watts=float(row["tdp_watts"]),
        ctdp_min_watts=_scaled(row["ctdp_min_watts"]),
        ctdp_max_watts=_scaled(row["ctdp_max_watts"]),
        l3_bytes=_count(row["l3_mib"], _MIB),
        list_hint_usd=_hint(row["list_usd"], row["list_usd"], row["list_basis"]),
        source=row["source"],
        notes=row["notes"],
    )


def _endpoint(row: Mapping[str, str]) -> HostedEndpoint:
    return HostedEndpoint(
        vendor=row["vendor"],
        model=row["model"],
        tokens_per_second=float(row["tokens_per_second"]),
        usd_per_million_input_tokens=float(row["usd_per_million_input_tokens"]),
        usd_per_million_output_tokens=float(row["usd_per_million_output_tokens"]),
        as_of=row["as_of"],
        source=row["source"],
        notes=row["notes"],
    )


def _scaled(cell: str, factor: float = 1.0) -> float | None:
    return float(cell) * factor if cell else None


def _count(cell: str, factor: int = 1) -> int | None:
    return int(cell) * factor if cell else None


def _hint(low: str, high: str, basis: str) -> PriceHint | None:
    return PriceHint(float(low), float(high), basis) if low else None
