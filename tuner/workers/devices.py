"""Which devices this machine has, and how trainers are laid out on them.

Nothing here imports TensorFlow: a device is chosen before a trainer's process exists, and
the trainer sees no other one.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise, takewhile
from typing import Literal

import psutil

from tuner.errors import UnavailableError

TRAINER_MEMORY_MB = 1500
"""What a TensorFlow process with a small data set takes; the packing leaves room for it."""


@dataclass(frozen=True)
class Device:
    """What one trainer owns: a GPU, or a group of processor cores."""

    kind: Literal["cpu", "gpu"]
    cpus: tuple[int, ...]
    """The cores that the trainer is pinned to."""
    gpu: str | None = None
    """As CUDA_VISIBLE_DEVICES names it: an index or a UUID."""

    @property
    def processor(self) -> "Device":
        """The cores alone, for where the GPU turns out to be out of reach."""
        return Device("cpu", self.cpus)

    @property
    def name(self) -> str:
        """For people: `gpu:0`, `cpu:0-1`."""
        if self.gpu is not None:
            return f"gpu:{self.gpu}"
        cores = str(self.cpus[0]) if len(self.cpus) == 1 else f"{self.cpus[0]}-{self.cpus[-1]}"
        return f"cpu:{cores}"

    def environment(self) -> dict[str, str]:
        """What the trainer's process must see before TensorFlow loads."""
        return {
            "CUDA_VISIBLE_DEVICES": "-1" if self.gpu is None else self.gpu,
            "OMP_NUM_THREADS": str(len(self.cpus)),
        }


def layout(workers: int | Literal["auto"], slots: int) -> tuple[Device, ...]:
    """The devices of a driver's trainers, at most one trainer a slot.

    `auto` takes every GPU; without one, as many single-core trainers as cores and memory
    allow.

    Raises:
        UnavailableError: more workers are asked for than there are devices.
    """
    cpus = tuple(sorted(os.sched_getaffinity(0)))
    gpus = visible_gpus(os.environ)
    available = len(gpus) or len(cpus)
    if workers != "auto" and workers > available:
        raise UnavailableError(
            f"workers: {workers} asked for, but this machine offers {available} "
            f"{'GPUs' if gpus else 'processor cores'}; lower --workers"
        )
    if workers == "auto" and not gpus:
        available = min(available, max(1, _free_memory_mb() // TRAINER_MEMORY_MB))
    count = min(available if workers == "auto" else workers, slots)
    groups = _split(cpus, count)
    return tuple(
        Device("gpu", group, gpus[index]) if gpus else Device("cpu", group)
        for index, group in enumerate(groups)
    )


def visible_gpus(environment: Mapping[str, str]) -> tuple[str, ...]:
    """The GPUs a process may use: what CUDA_VISIBLE_DEVICES names, else all that the driver has.

    CUDA stops reading the list at its first invalid name, and so does this.
    """
    stated = environment.get("CUDA_VISIBLE_DEVICES")
    if stated is not None:
        names = (name.strip() for name in stated.split(","))
        return tuple(takewhile(lambda name: name not in ("", "-1"), names))
    return tuple(str(index) for index in range(_gpu_count()))


def _gpu_count() -> int:
    import pynvml

    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:  # no NVIDIA driver on this machine
        return 0
    try:
        return int(pynvml.nvmlDeviceGetCount())
    finally:
        pynvml.nvmlShutdown()


def _free_memory_mb() -> int:
    return int(psutil.virtual_memory().available / 2**20)


def _split(cpus: tuple[int, ...], count: int) -> list[tuple[int, ...]]:
    """Cuts the cores into `count` groups of neighbours; with too few cores groups share them."""
    if count > len(cpus):
        return [(cpus[index % len(cpus)],) for index in range(count)]
    edges = [index * len(cpus) // count for index in range(count + 1)]
    return [cpus[first:last] for first, last in pairwise(edges)]
