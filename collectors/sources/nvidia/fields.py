"""The entries of NVML's field API (``nvmlDeviceGetFieldValues``) that Vatio reads, with their units."""

from __future__ import annotations

from typing import Final

from collectors.sources.nvidia.nvml import Field

_ALL_LINKS = 0xFFFF_FFFF
_MEMORY_SCOPE = 2

MEMORY_POWER = Field("memory power", 185, _MEMORY_SCOPE)  # mW, 1 s average
MEMORY_TEMPERATURE = Field("memory temperature", 82)  # degrees C
POWER_THROTTLE = Field("time held down by power", 74)  # ns
THERMAL_THROTTLE = Field("time held down by temperature", 75)  # ns
SOFTWARE_THERMAL_THROTTLE = Field("time held down by temperature, software", 269)  # ns
HARDWARE_THERMAL_THROTTLE = Field("time held down by temperature, hardware", 270)  # ns
BRAKE_THROTTLE = Field("time held down by the power brake", 271)  # ns
NVLINK_TX_KIB = Field("NVLink sent", 138, _ALL_LINKS)  # KiB
NVLINK_RX_KIB = Field("NVLink received", 139, _ALL_LINKS)  # KiB
NVLINK_TX_BYTES = Field("NVLink bytes sent", 202, _ALL_LINKS, wide=True)
NVLINK_RX_BYTES = Field("NVLink bytes received", 204, _ALL_LINKS, wide=True)
PCIE_TX_BYTES = Field("PCIe bytes sent", 197, wide=True)
PCIE_RX_BYTES = Field("PCIe bytes received", 198, wide=True)
RECOVERY_ACTION = Field("recovery action", 230)
RETIRED_SINGLE = Field("pages retired after corrected errors", 29)  # up to Turing
RETIRED_DOUBLE = Field("pages retired after uncorrected errors", 30)  # up to Turing

FAST: Final = (
    MEMORY_POWER, MEMORY_TEMPERATURE, POWER_THROTTLE, THERMAL_THROTTLE, SOFTWARE_THERMAL_THROTTLE,
    HARDWARE_THERMAL_THROTTLE, BRAKE_THROTTLE, NVLINK_TX_KIB, NVLINK_RX_KIB, NVLINK_TX_BYTES, NVLINK_RX_BYTES,
    PCIE_TX_BYTES, PCIE_RX_BYTES, RECOVERY_ACTION,
)  # fmt: skip
SLOW: Final = (RETIRED_SINGLE, RETIRED_DOUBLE)
