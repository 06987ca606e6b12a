"""Exporters that run on other machines anyway: each dialect is one file, and its name in ``DIALECTS``."""

from __future__ import annotations

from collectors.sources.exporters.amd import AMD
from collectors.sources.exporters.dcgm import DCGM
from collectors.sources.exporters.dialect import Dialect
from collectors.sources.exporters.kepler import KEPLER
from collectors.sources.exporters.node import NODE
from collectors.sources.exporters.nvidia_smi import NVIDIA_SMI
from collectors.sources.exporters.nvitop import NVITOP
from collectors.sources.exporters.omnistat import OMNISTAT
from collectors.sources.exporters.vatio import VATIO

DIALECTS: tuple[Dialect, ...] = (DCGM, AMD, NVIDIA_SMI, NVITOP, NODE, KEPLER, OMNISTAT, VATIO)
"""A page may speak several of them."""
