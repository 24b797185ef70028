"""Measures the trainer's machine while it trains, with MLflow's names for system metrics."""

import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Self

import psutil

from tuner.clock import now_ms
from tuner.training.plan import SystemSample

INTERVAL_S = 10.0
"""MLflow's default interval."""


class SystemSampler:
    """Calls `emit` with a sample every `INTERVAL_S` and at the end."""

    def __init__(self, emit: Callable[[SystemSample], None]) -> None:
        self._emit = emit
        self._stopped = threading.Event()
        self._gpus = _gpu_handles()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Self:
        _start_measuring()
        self._thread.start()
        return self

    def __exit__(self, *raised: object) -> None:
        self._stopped.set()
        self._thread.join()
        self._emit(self._sample())

    def _run(self) -> None:
        _start_measuring()
        while not self._stopped.wait(INTERVAL_S):
            self._emit(self._sample())

    def _sample(self) -> SystemSample:
        memory = psutil.virtual_memory()
        values = {
            "cpu_utilization_percentage": psutil.cpu_percent(),
            "system_memory_usage_megabytes": memory.used / 1e6,
            "system_memory_usage_percentage": memory.percent,
            "trainer_memory_megabytes": psutil.Process().memory_info().rss / 1e6,
        }
        for index, gpu in enumerate(self._gpus):
            values |= _gpu_values(index, gpu)
        return SystemSample(at_ms=now_ms(), values=values)


def _start_measuring() -> None:
    """Starts psutil's measurement, which begins in each thread with its first call."""
    psutil.cpu_percent()


def _gpu_handles() -> list[Any]:
    import pynvml

    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:  # no NVIDIA driver on this machine
        return []
    return [pynvml.nvmlDeviceGetHandleByIndex(i) for i in range(pynvml.nvmlDeviceGetCount())]


def _gpu_values(index: int, handle: Any) -> dict[str, float]:
    """The values of one GPU; a GPU that is split by MIG has no utilization."""
    import pynvml

    values: dict[str, float] = {}
    with suppress(pynvml.NVMLError):
        memory = pynvml.nvmlDeviceGetMemoryInfo(handle)
        values[f"gpu_{index}_memory_usage_percentage"] = 100 * memory.used / memory.total
        values[f"gpu_{index}_memory_usage_megabytes"] = memory.used / 1e6
    with suppress(pynvml.NVMLError):
        rates = pynvml.nvmlDeviceGetUtilizationRates(handle)
        values[f"gpu_{index}_utilization_percentage"] = float(rates.gpu)
    return values
