"""The hardware catalogues: every row is sound, and driver names find exactly their product."""

import csv
import re
from dataclasses import fields
from importlib.resources import files

import pytest

from core.hardware.catalogue import (
    AcceleratorModel,
    CpuModel,
    PriceHint,
    accelerators,
    cpus,
    endpoints,
    match_accelerator,
    match_cpu,
)

# The names as drivers give them (NVML, the amdgpu name table, amdsmi market_name).
ACCELERATOR_NAMES = {
    "Tesla T4": "T4",
    "NVIDIA A10": "A10",
    "NVIDIA L4": "L4",
    "NVIDIA L40S": "L40S",
    "A100-PCIE-40GB": "A100 PCIe 40GB",
    "NVIDIA A100-PCIE-40GB": "A100 PCIe 40GB",
    "NVIDIA A100 80GB PCIe": "A100 PCIe 80GB",
    "A100-SXM4-40GB": "A100 SXM 40GB",
    "NVIDIA A100-SXM4-80GB": "A100 SXM 80GB",
    "NVIDIA H100 PCIe": "H100 PCIe",
    "NVIDIA H100 NVL": "H100 NVL",
    "NVIDIA H100 80GB HBM3": "H100 SXM",
    "NVIDIA H200": "H200 SXM",
    "NVIDIA H200 NVL": "H200 NVL",
    "NVIDIA GH200 120GB": "GH200 96GB",
    "NVIDIA GH200 480GB": "GH200 96GB",
    "NVIDIA GH200 144G HBM3e": "GH200 144GB",
    "NVIDIA B200": "B200 SXM",
    "NVIDIA GB200": "GB200 (NVL72)",
    "NVIDIA B300 SXM6 AC": "B300 SXM",
    "NVIDIA GB300": "GB300 (NVL72)",
    "NVIDIA GeForce RTX 4090": "GeForce RTX 4090",
    "NVIDIA GeForce RTX 5090": "GeForce RTX 5090",
    "NVIDIA RTX 6000 Ada Generation": "RTX 6000 Ada",
    "NVIDIA RTX PRO 6000 Blackwell Server Edition": "RTX PRO 6000 Blackwell Server",
    "AMD Instinct MI210": "Instinct MI210",
    "AMD Instinct MI250X": "Instinct MI250X",
    "AMD Instinct MI300A": "Instinct MI300A",
    "MI300A": "Instinct MI300A",
    "AMD Instinct MI300X": "Instinct MI300X",
    "AMD Instinct MI300X VF": "Instinct MI300X",
    "AMD Instinct MI308X": "Instinct MI308X",
    "AMD Instinct MI325X": "Instinct MI325X",
    "AMD Instinct MI350X": "Instinct MI350X",
    "AMD Instinct MI355X": "Instinct MI355X",
    "AMD Radeon PRO W7900": "Radeon PRO W7900",
}
OTHER_PRODUCTS = (
    "NVIDIA A10G",
    "NVIDIA A10M",
    "NVIDIA A100-SXM-64GB",
    "NVIDIA A2",
    "NVIDIA L40",
    "NVIDIA L20",
    "NVIDIA H20",
    "NVIDIA H20-3e",
    "NVIDIA H800",
    "NVIDIA H100",
    "NVIDIA T400 4GB",
    "NVIDIA GeForce RTX 4090 D",
    "NVIDIA GeForce RTX 4090 Laptop GPU",
    "NVIDIA GeForce RTX 5090 D",
    "NVIDIA RTX 5000 Ada Generation",
    "NVIDIA RTX PRO 6000 Blackwell Max-Q Workstation Edition",
    "Orin (nvgpu)",
    "AMD Radeon Graphics",
    "AMD Instinct MI100",
    "AMD Instinct MI250X / MI250",
    "AMD Instinct MI300X HF",
    "AMD Radeon PRO W7900 Dual Slot",
    "",
)
SLICES = ("NVIDIA H100 80GB HBM3 MIG 1g.10gb", "NVIDIA H200 MIG 7g.141gb", "NVIDIA L4-24Q", "NVIDIA L40S-48C")


@pytest.mark.parametrize(("name", "model"), ACCELERATOR_NAMES.items())
def test_driver_names_find_their_product(name, model):
    found = match_accelerator(name)
    assert found is not None
    assert found.model == model


@pytest.mark.parametrize("name", OTHER_PRODUCTS + SLICES)
def test_what_is_not_in_the_catalogue_stays_unknown(name):
    assert match_accelerator(name) is None


def test_an_ambiguous_name_is_no_match():
    both = "NVIDIA H100 PCIe and NVIDIA H100 NVL"
    assert sum(bool(m.name_pattern and m.name_pattern.search(both)) for m in accelerators()) == 2
    assert match_accelerator(both) is None


@pytest.mark.parametrize(
    ("name", "model"),
    [
        ("AMD EPYC 9654 96-Core Processor", "EPYC 9654"),
        ("AMD EPYC 9654 96-Core Processor                ", "EPYC 9654"),
        ("AMD EPYC 9654P 96-Core Processor", "EPYC 9654P"),
        ("AMD EPYC 9754S 128-Core Processor", "EPYC 9754S"),
        ("AMD EPYC 9965 192-Core Processor", "EPYC 9965"),
        ("AMD EPYC 9575F 64-Core Processor", "EPYC 9575F"),
        ("Intel(R) Xeon(R) Platinum 8480+", "Xeon Platinum 8480+"),
        ("INTEL(R) XEON(R) PLATINUM 8580", "Xeon Platinum 8580"),
        ("Intel(R) Xeon(R) Gold 6430 CPU @ 2.10GHz", "Xeon Gold 6430"),
        ("Intel(R) Xeon(R) CPU Max 9480", "Xeon CPU Max 9480"),
        ("Intel(R) Xeon(R) 6980P", "Xeon 6980P"),
    ],
)
def test_cpus_are_known_by_the_name_the_kernel_gives(name, model):
    found = match_cpu(name)
    assert found is not None
    assert found.model == model


@pytest.mark.parametrize(
    "name",
    [
        "AMD EPYC",
        "AMD EPYC Processor",
        "AMD EPYC 9R14 96-Core Processor",
        "AMD EPYC 9V33X 96-Core Processor",
        "AMD EPYC 965 96-Core Processor",
        "AMD EPYC-Genoa Processor",
        "Intel(R) Xeon(R) Platinum 8480C",
        "Intel(R) Xeon(R) Platinum 8480",
        "Neoverse-V2",
        "",
    ],
)
def test_cloud_and_generic_cpu_names_stay_unknown(name):
    assert match_cpu(name) is None


def test_published_figures_arrive_in_base_units():
    h100 = match_accelerator("NVIDIA H100 80GB HBM3")
    assert h100 is not None
    assert h100.tdp_watts == 700
    assert h100.memory_bytes == 80 << 30
    assert h100.memory_bytes_per_second == 3.35e12
    assert h100.bf16_dense_flop_per_second == 989e12
    epyc = match_cpu("AMD EPYC 9654 96-Core Processor")
    assert epyc is not None
    assert (epyc.cores, epyc.threads, epyc.tdp_watts) == (96, 192, 360)
    assert (epyc.ctdp_min_watts, epyc.ctdp_max_watts, epyc.l3_bytes) == (320, 400, 384 << 20)
    assert epyc.base_hertz == 2.4e9
    assert epyc.family_code == "Genoa"


def test_what_is_not_published_is_none_and_not_zero():
    mi308x = match_accelerator("AMD Instinct MI308X")
    assert mi308x is not None
    assert mi308x.tdp_watts is None
    assert mi308x.bf16_dense_flop_per_second is None
    assert mi308x.rental_hint_usd_per_hour is None


def _raw(name):
    with files("core.hardware").joinpath(name).open(encoding="utf-8") as file:
        return list(csv.reader(file, strict=True))


@pytest.mark.parametrize(("name", "rows"), [("accelerators.csv", accelerators), ("cpus.csv", cpus)])
def test_every_row_is_complete_and_named_once(name, rows):
    header, *lines = _raw(name)
    assert {len(line) for line in lines} == {len(header)}
    assert len(rows()) == len(lines)
    assert len({(row.vendor, row.model) for row in rows()}) == len(lines)
    for row in rows():
        assert row.vendor
        assert row.model
        assert row.source, f"{row.model}: figures without an origin"
        assert 2015 < row.launch_year < 2030


def test_what_was_published_of_endpoints_says_where_and_when():
    header, *lines = _raw("endpoints.csv")
    assert {len(line) for line in lines} == {len(header)}
    assert len(endpoints()) == len({(row.vendor, row.model) for row in endpoints()}) == len(lines)
    for row in endpoints():
        assert "speed: " in row.source
        assert "price: " in row.source
        assert re.fullmatch(r"20\d\d(-\d\d)?", row.as_of)
        assert 1 < row.tokens_per_second < 10_000
        assert 0 < row.usd_per_million_input_tokens <= row.usd_per_million_output_tokens < 100


def _numbers(row):
    values = [getattr(row, field.name) for field in fields(row)]
    hints = [price for v in values if isinstance(v, PriceHint) for price in (v.low, v.high)]
    return [v for v in values if isinstance(v, int | float)] + hints


@pytest.mark.parametrize("row", [*accelerators(), *cpus()], ids=lambda row: row.model)
def test_figures_are_plausible(row: AcceleratorModel | CpuModel):
    assert all(number > 0 for number in _numbers(row))
    for hint in (getattr(row, "rental_hint_usd_per_hour", None), row.list_hint_usd):
        assert hint is None or (hint.low <= hint.high and hint.basis), "a price hint needs its origin"
    if isinstance(row, CpuModel):
        assert 50 <= row.tdp_watts <= 600
        if row.ctdp_min_watts is not None and row.ctdp_max_watts is not None:
            assert row.ctdp_min_watts <= row.tdp_watts <= row.ctdp_max_watts
        assert row.cores is None or row.threads in (row.cores, 2 * row.cores)
    elif row.fp8_dense_flop_per_second and row.bf16_dense_flop_per_second:
        assert 1 <= row.fp8_dense_flop_per_second / row.bf16_dense_flop_per_second < 2.1
