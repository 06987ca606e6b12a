"""GPM: what the SMs, the tensor pipes and the memory bus really did (Hopper and newer).

The driver answers for the span between two samples it took itself. The sample of the last tick is
kept and compared with a new one, so nothing waits; the first tick has no answer.
"""

from __future__ import annotations

import time
from functools import partial
from typing import Any, Final

from collectors.sources.nvidia.nvml import DeviceGone, DriverGone, Nvml

SM_ACTIVE: Final = 2  # %
SM_OCCUPANCY: Final = 3  # %
TENSOR_ACTIVE: Final = 5  # %, any tensor pipe
DRAM_ACTIVE: Final = 10  # % of peak bandwidth
PCIE_TX: Final = 20  # MiB/s
PCIE_RX: Final = 21  # MiB/s

_METRICS = (SM_ACTIVE, SM_OCCUPANCY, TENSOR_ACTIVE, DRAM_ACTIVE, PCIE_TX, PCIE_RX)
_SHORTEST_SPAN_SECONDS = 0.1  # the driver's own lower limit


class Gpm:
    """The running pair of samples of one GPU, or of one GPU instance of it (MIG)."""

    def __init__(self, nvml: Nvml, key: str, handle: Any, instance: int | None = None) -> None:  # noqa: ANN401
        self._nvml = nvml
        self._key = key
        self._handle = handle
        self._instance = instance
        self._previous: Any = None
        self._spare: Any = None
        self._taken_at = float("-inf")

    def read(self) -> dict[int, float]:
        """Means since the last call, by GPM metric id; empty when there is nothing to compare with."""
        if time.monotonic() - self._taken_at < _SHORTEST_SPAN_SECONDS:
            return {}
        current = self._nvml.ask(self._key, "GPM sample", self._take)
        if current is None:
            return {}
        previous, self._previous, self._spare = self._previous, current, self._previous
        self._taken_at = time.monotonic()
        if previous is None:
            return {}
        pair = self._nvml.ask(self._key, "GPM metrics", lambda: self._compare(previous, current))
        if pair is None:
            return {}
        answers = pair.metrics[: len(_METRICS)]
        return {answer.metricId: answer.value for answer in answers if answer.nvmlReturn == 0}

    def close(self) -> None:
        """Free the samples."""
        samples, self._previous, self._spare = (self._previous, self._spare), None, None
        for sample in samples:
            if sample is not None:
                try:
                    self._nvml.ask(self._key, "GPM", partial(self._nvml.api.nvmlGpmSampleFree, sample))
                except (DeviceGone, DriverGone):  # whoever is gone holds no sample
                    return

    def _take(self) -> Any:  # noqa: ANN401
        api = self._nvml.api
        self._spare = self._spare if self._spare is not None else api.nvmlGpmSampleAlloc()
        if self._instance is None:
            return api.nvmlGpmSampleGet(self._handle, self._spare)
        return api.nvmlGpmMigSampleGet(self._handle, self._instance, self._spare)

    def _compare(self, earlier: Any, later: Any) -> Any:  # noqa: ANN401
        api = self._nvml.api
        pair = api.c_nvmlGpmMetricsGet_t()
        pair.version = api.NVML_GPM_METRICS_GET_VERSION
        pair.numMetrics = len(_METRICS)
        pair.sample1, pair.sample2 = earlier, later
        for slot, metric in enumerate(_METRICS):
            pair.metrics[slot].metricId = metric
        return api.nvmlGpmMetricsGet(pair)


def supported(nvml: Nvml, key: str, handle: Any) -> bool:  # noqa: ANN401
    """Whether a GPU offers GPM (``nvmlGpmQueryDeviceSupport``)."""
    answer = nvml.ask(key, "GPM", lambda: nvml.api.nvmlGpmQueryDeviceSupport(handle))
    return answer is not None and bool(answer.isSupportedDevice)
