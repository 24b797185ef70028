"""How trainers are laid out, on machines of any number of cores and GPUs."""

import os
import platform
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tuner.errors import UnavailableError
from tuner.workers.devices import (
    TRAINER_MEMORY_MB,
    Device,
    layout,
    layouts,
    processor_model,
    single,
    visible_gpus,
)

PLENTY_MB = 10**6


@contextmanager
def machine(
    cpus: set[int],
    gpus: int = 0,
    free_mb: int = PLENTY_MB,
    quota: float | None = None,
    limit_mb: int | None = None,
) -> Iterator[None]:
    """A machine of this many cores and GPUs, as the operating system would report it."""
    with pytest.MonkeyPatch.context() as patch:
        limit = None if limit_mb is None else limit_mb * 2**20
        patch.setattr("tuner.workers.devices.processor_quota", lambda: quota)
        patch.setattr("tuner.workers.devices.free_memory", lambda: limit)
        patch.setattr(os, "sched_getaffinity", lambda _pid: cpus)
        patch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(available=free_mb * 2**20))
        patch.setenv("CUDA_VISIBLE_DEVICES", ",".join(map(str, range(gpus))))
        yield


cores = st.sets(st.integers(0, 200), min_size=1, max_size=40)
slots = st.integers(1, 100)


@given(cores, slots, st.data())
def test_every_core_belongs_to_one_trainer(cpus: set[int], slots: int, data: st.DataObject) -> None:
    workers = data.draw(st.integers(1, len(cpus)))
    with machine(cpus):
        devices = layout(workers, slots)
    assert len(devices) == min(workers, slots)
    assert [cpu for device in devices for cpu in device.cpus] == sorted(cpus)
    sizes = {len(device.cpus) for device in devices}
    assert max(sizes) - min(sizes) <= 1
    assert {device.kind for device in devices} == {"cpu"}


@given(cores, st.floats(0.1, 50), slots)
def test_a_container_gets_as_many_cores_as_its_quota_is_worth(
    cpus: set[int], quota: float, slots: int
) -> None:
    with machine(cpus, quota=quota):
        found = layouts(slots)[0]
    used = [cpu for device in found for cpu in device.cpus]
    assert set(used) <= cpus
    assert len(used) == len(set(used)) == min(len(cpus), max(1, int(quota)))


def test_a_containers_memory_is_what_its_limit_leaves() -> None:
    with machine(set(range(8)), limit_mb=3 * TRAINER_MEMORY_MB + 1):
        assert len(layouts(100)[0]) == 3


@given(cores, st.integers(1, 16), slots, st.data())
def test_every_trainer_has_a_gpu_of_its_own(
    cpus: set[int], gpus: int, slots: int, data: st.DataObject
) -> None:
    workers = data.draw(st.none() | st.integers(1, gpus))
    with machine(cpus, gpus, free_mb=0):
        devices = layouts(slots)[0] if workers is None else layout(workers, slots)
    assert [device.gpu for device in devices] == [
        str(index) for index in range(min(workers or gpus, slots))
    ]
    assert {cpu for device in devices for cpu in device.cpus} <= cpus
    assert all(device.cpus for device in devices)
    if len(devices) <= len(cpus):
        assert [cpu for device in devices for cpu in device.cpus] == sorted(cpus)


@given(cores, slots, st.integers(0, 100 * TRAINER_MEMORY_MB))
def test_by_rule_there_are_as_many_trainers_as_cores_memory_and_slots_allow(
    cpus: set[int], slots: int, free_mb: int
) -> None:
    with machine(cpus, free_mb=free_mb):
        first = layouts(slots)[0]
    assert len(first) == min(len(cpus), slots, max(1, free_mb // TRAINER_MEMORY_MB))


@given(cores, st.integers(0, 8), slots, st.integers(0, 100 * TRAINER_MEMORY_MB))
def test_what_else_is_tried_differs_fits_and_uses_the_whole_machine(
    cpus: set[int], gpus: int, slots: int, free_mb: int
) -> None:
    with machine(cpus, gpus, free_mb=free_mb):
        first, *others = layouts(slots)
    counts = [len(first), *map(len, others)]
    assert len(set(counts)) == len(counts)
    assert max(counts) <= slots
    for devices in others:
        assert len(devices) <= max(1, free_mb // TRAINER_MEMORY_MB)
        assert len(devices) > gpus if gpus else len(devices) < len(cpus)
        shares = Counter(device.gpu for device in devices)
        assert max(shares.values()) - min(shares.values()) <= 1 or not gpus
        if not gpus:
            assert {cpu for device in devices for cpu in device.cpus} == cpus


@pytest.mark.parametrize(("gpus", "kind"), [(0, "3 processor cores"), (2, "2 GPUs")])
def test_more_workers_than_devices_are_refused(gpus: int, kind: str) -> None:
    message = f"workers: 4 asked for, but this machine offers {kind}; lower --workers"
    with machine({0, 1, 2}, gpus), pytest.raises(UnavailableError, match=message):
        layout(4, slots=10)


@pytest.mark.parametrize(
    ("stated", "gpus"),
    [
        ("0", ("0",)),
        ("0, 2", ("0", "2")),
        ("GPU-8932f937,MIG-GPU-b", ("GPU-8932f937", "MIG-GPU-b")),
        ("", ()),
        ("-1", ()),
        ("1,-1,0", ("1",)),
    ],
)
def test_what_cuda_visible_devices_names(stated: str, gpus: tuple[str, ...]) -> None:
    assert visible_gpus({"CUDA_VISIBLE_DEVICES": stated}) == gpus


@pytest.mark.parametrize(
    ("device", "name", "visible"),
    [
        (Device("cpu", (3,)), "cpu:3", "-1"),
        (Device("cpu", (2, 3, 4)), "cpu:2-4", "-1"),
        (Device("gpu", (0, 1), "1"), "gpu:1", "1"),
        (Device("gpu", (0,), "GPU-8932f937"), "gpu:GPU-8932f937", "GPU-8932f937"),
    ],
)
def test_a_trainer_sees_its_own_device_alone(device: Device, name: str, visible: str) -> None:
    assert device.name == name
    assert device.environment() == {
        "CUDA_VISIBLE_DEVICES": visible,
        "OMP_NUM_THREADS": str(len(device.cpus)),
    }


def test_this_machine_has_a_device() -> None:
    assert len(layout(1, slots=1)) == len(layouts(slots=1)[0]) == 1


def test_devices_are_chosen_without_tensorflow() -> None:
    code = (
        "import sys; from tuner.workers.devices import layout; layout(1, 1)\n"
        "import tuner.workers.local_pool\n"
        "print({'tensorflow', 'keras', 'optuna', 'mlflow', 'sqlalchemy'} & set(sys.modules))"
    )
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "set()"


@given(cores, st.integers(1, 64))
def test_a_single_trainer_has_as_many_threads_as_it_is_asked_for(
    cpus: set[int], threads: int
) -> None:
    with machine(cpus):
        device = single("cpu", threads)
    assert (device.kind, device.threads) == ("cpu", threads)
    assert set(device.cpus) <= cpus
    assert len(device.cpus) == min(threads, len(cpus))


def test_a_single_trainer_has_a_gpu_if_it_is_asked_for_and_there_is_one() -> None:
    with machine({0, 1}, gpus=2):
        assert single("gpu", 1).gpu == "0"
        assert single("cpu", 1).gpu is None
    with machine({0, 1}):
        assert single("gpu", 2).name == "cpu:0-1"


@pytest.mark.parametrize(
    ("told", "model"),
    [
        (
            "processor\t: 0\ncpu family\t: 25\nmodel\t\t: 1\nmodel name\t: AMD EPYC\n\n"
            "processor\t: 1\ncpu family\t: 6\nmodel\t\t: 2\nmodel name\t: Other\n",
            "AMD EPYC, cpu family 25, model 1",
        ),
        (
            "processor\t: 0\nCPU implementer\t: 0x41\nCPU part\t: 0xd0c\n",
            "CPU implementer 0x41, CPU part 0xd0c",
        ),
        ("", platform.machine()),
    ],
)
def test_a_processor_is_named_by_what_the_kernel_tells_of_it(
    tmp_path: Path, told: str, model: str
) -> None:
    (tmp_path / "cpuinfo").write_text(told)
    assert processor_model(tmp_path / "cpuinfo") == model
