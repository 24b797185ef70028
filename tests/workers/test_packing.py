"""The packing that reaches the highest pace is taken, and remembered."""

import os
from collections.abc import Sequence
from contextlib import ExitStack, closing
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.workers.conftest import PlanMaker, follow, is_gone
from tuner.driver.packing import MeasuredPacking, Memory, Packings, fastest
from tuner.workers.devices import Device, layouts
from tuner.workers.local_pool import LocalPool
from tuner.workers.pool import Finished

NUMPY_ENGINE = Path(__file__).parents[1] / "faults" / "site"
WORKLOAD = "paper-cnn on mnist, here: 2 cores, 0 GPUs"


def test_the_faster_of_two_packings_stays_and_the_other_ends(
    make_plan: PlanMaker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of trainers that train in NumPy: what counts is their number, and they start at once."""
    monkeypatch.setenv("PYTHONPATH", f"{NUMPY_ENGINE}:{os.environ.get('PYTHONPATH', '')}")
    (core, *_) = layouts(slots=1)[0]
    core = replace(core, cpus=core.cpus[:1])
    plan = make_plan()
    with ExitStack() as stack:

        def start(devices: Sequence[Device]) -> LocalPool:
            return stack.enter_context(closing(LocalPool(devices, tmp_path / "logs")))

        slow = MeasuredPacking(start([core, core]), 1e9)
        slow.pool.epoch_times(plan, ["float32"])
        beaten = slow.pool.submit(plan).pid
        follow(slow.pool, plan)
        best, paces = fastest(slow, [[core]], start, plan)
        assert best.pool.size == 1
        assert paces == {2: 2 / 1e9, 1: best.pace}
        assert is_gone(beaten)

        unbeaten = replace(best, epoch_s=1e-9)
        assert fastest(unbeaten, [[core]], start, plan)[0] is unbeaten
        again = make_plan()
        unbeaten.pool.submit(again)
        assert isinstance(follow(unbeaten.pool, again)[-1], Finished)


@given(paces=st.dictionaries(st.integers(1, 512), st.floats(1e-6, 1e6), min_size=1))
def test_the_highest_pace_is_remembered_and_other_workloads_too(
    paces: dict[int, float], tmp_path_factory: pytest.TempPathFactory
) -> None:
    file = tmp_path_factory.mktemp("memory") / "packings.json"
    Packings(Memory(file)).keep("another", {7: 1.0})
    Packings(Memory(file)).keep(WORKLOAD, paces)
    fastest_count = Packings(Memory(file)).trainers(WORKLOAD)
    assert fastest_count is not None
    assert paces[fastest_count] == max(paces.values())
    assert Packings(Memory(file)).trainers("another") == 7


@pytest.mark.parametrize("text", [None, "", '{"cut', "[1, 2]"])
def test_a_memory_that_is_missing_or_damaged_counts_as_none(
    text: str | None, tmp_path: Path
) -> None:
    file = tmp_path / "packings.json"
    if text is not None:
        file.write_text(text)
    assert Packings(Memory(file)).trainers(WORKLOAD) is None
    Packings(Memory(file)).keep(WORKLOAD, {2: 0.5})
    assert Packings(Memory(file)).trainers(WORKLOAD) == 2
