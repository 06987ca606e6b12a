"""What the exporters of NVIDIA's GPUs share: how a GPU is named, and states that are spread over several series."""

from __future__ import annotations

import re
from collections.abc import Sequence

from collectors.sources.exporters.accelerators import Rows, single
from collectors.sources.nvidia.device import throttle_of

_BARE_UUID = re.compile(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
_ALL_REASONS = 2.0**31 - 17  # beyond: NVML's way to say that it does not know


def nvidia_uuid(text: str) -> str:
    """A UUID as NVML writes it; empty for one of zeros, which is nobody's."""
    bare = text.removeprefix("GPU-")
    if not bare.strip("0-"):
        return ""
    return text if text.startswith(("GPU-", "MIG-")) or not _BARE_UUID.fullmatch(text) else f"GPU-{text}"


def pci_address(text: str) -> str:
    """A PCI address as Vatio's sources write it: four digits of domain, lower case."""
    domain, colon, rest = text.lower().partition(":")
    return f"{domain[-4:]}{colon}{rest}"


def row_remap_state(rows: Rows, pending_name: str, failed_name: str) -> int | None:
    """Bit 0: a reset is pending; bit 1: remapping failed; ``None`` where neither is told."""
    pending, failed = (
        value if value in (0, 1) else None for value in (single(rows, pending_name), single(rows, failed_name))
    )
    if pending is None and failed is None:
        return None
    return int(bool(pending)) | int(bool(failed)) << 1


def throttle_reasons(rows: Rows, names: Sequence[str]) -> int | None:
    """NVML's bits, under the first of these names that is there, in Vatio's vocabulary."""
    bits = next((bits for name in names if (bits := single(rows, name)) is not None), None)
    return throttle_of(int(bits)) if bits is not None and 0 <= bits < _ALL_REASONS else None
