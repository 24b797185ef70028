"""Samples of the machine while something trains."""

import queue

import pytest

from tests.waiting import LONGEST_S
from tuner.training.plan import SystemSample
from tuner.workers import system_metrics
from tuner.workers.system_metrics import SystemSampler


def test_the_machine_is_measured_at_the_end_however_short_it_was() -> None:
    samples: list[SystemSample] = []
    with SystemSampler(samples.append):
        pass
    (sample,) = samples
    assert {
        "cpu_utilization_percentage",
        "system_memory_usage_megabytes",
        "system_memory_usage_percentage",
        "trainer_memory_megabytes",
    } <= set(sample.values)
    assert 0 < sample.values["system_memory_usage_percentage"] <= 100


def test_the_machine_is_measured_all_along(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(system_metrics, "INTERVAL_S", 0.01)
    samples: queue.SimpleQueue[SystemSample] = queue.SimpleQueue()
    with SystemSampler(samples.put):
        during = [samples.get(timeout=LONGEST_S).at_ms for _ in range(3)]
    assert during == sorted(during)
    assert samples.get_nowait().at_ms >= during[-1]
