"""The devices of this machine, its container's limits, and the layout of trainers on devices.

Imports no backend: a device is chosen before the trainer's process starts, and the trainer sees
no other one.
"""

import os
import platform
import socket
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise, takewhile
from pathlib import Path
from typing import Literal

import psutil

from tuner.errors import UnavailableError

_ROOT = Path("/sys/fs/cgroup")
_NO_LIMIT = 2**60
"""cgroup version 1 has the largest page-aligned number where memory has no limit."""
_CPUINFO = Path("/proc/cpuinfo")
_IDENTIFYING = ("model name", "cpu family", "model", "CPU implementer", "CPU part")
"""The entries of /proc/cpuinfo that identify a processor, on x86 and on ARM."""
TRAINER_MEMORY_MB = 1500
"""The memory of a trainer with a small data set, for which a layout leaves room."""


@dataclass(frozen=True)
class Device:
    """The device of one trainer: a GPU, or a group of processor cores."""

    kind: Literal["cpu", "gpu"]
    cpus: tuple[int, ...]
    """The cores to which the trainer is pinned."""
    gpu: str | None = None
    """The GPU as CUDA_VISIBLE_DEVICES names it: an index or a UUID."""
    share: int | None = None
    """The number of these cores to use, if other trainers are pinned to them too."""

    @property
    def threads(self) -> int:
        """The number of threads for the backend."""
        return self.share or len(self.cpus)

    @property
    def processor(self) -> "Device":
        """The cores alone, for a backend that finds no GPU."""
        return Device("cpu", self.cpus, share=self.share)

    @property
    def name(self) -> str:
        """The name for people: `gpu:0`, `cpu:0-1`."""
        if self.gpu is not None:
            return f"gpu:{self.gpu}"
        cores = str(self.cpus[0]) if len(self.cpus) == 1 else f"{self.cpus[0]}-{self.cpus[-1]}"
        return f"cpu:{cores}"

    @property
    def model(self) -> str:
        """The model of the GPU or processor; empty for a GPU that the driver does not name."""
        return processor_model() if self.gpu is None else _gpu_model(self.gpu)

    def environment(self) -> dict[str, str]:
        """The variables that the trainer's process needs before its backend loads."""
        return {
            "CUDA_VISIBLE_DEVICES": "-1" if self.gpu is None else self.gpu,
            "OMP_NUM_THREADS": str(self.threads),
        }


def layout(workers: int, slots: int) -> tuple[Device, ...]:
    """The devices of `workers` trainers, but of at most one trainer a slot.

    Raises:
        UnavailableError: `workers` is larger than the number of devices.
    """
    available = len(visible_gpus(os.environ)) or len(usable_cores())
    if workers > available:
        raise UnavailableError(
            f"workers: {workers} asked for, but this machine offers {available} "
            f"{'GPUs' if visible_gpus(os.environ) else 'processor cores'}; lower --workers"
        )
    return _devices(min(workers, slots))


def single(kind: str, threads: int) -> Device:
    """The device of a single trainer with so many threads.

    A GPU if `kind` is `gpu` and there is one, else processor cores.
    """
    cores = usable_cores()[:threads]
    gpus = visible_gpus(os.environ)
    if kind == "gpu" and gpus:
        return Device("gpu", cores, gpus[0], share=threads)
    return Device("cpu", cores, share=threads)


def layouts(slots: int) -> list[tuple[Device, ...]]:
    """The layouts that `workers: auto` chooses from: the default first, then others to measure.

    The default has a trainer for every GPU, or else for every core. The others have several
    trainers on a GPU, or several cores for a trainer. None has more trainers than memory allows.
    """
    room = max(1, _free_memory_mb() // TRAINER_MEMORY_MB)
    gpus, cpus = len(visible_gpus(os.environ)), len(usable_cores())
    counts = [gpus, 2 * gpus, 4 * gpus] if gpus else [cpus, cpus // 2, cpus // 4]
    first, *others = (min(count, slots) for count in counts)
    if not gpus:
        first = min(first, room)
    distinct = dict.fromkeys([first, *(each for each in others if 0 < each <= room)])
    return [_devices(count) for count in distinct]


def _devices(count: int) -> tuple[Device, ...]:
    gpus = visible_gpus(os.environ)
    return tuple(
        Device("gpu", group, gpus[index % len(gpus)]) if gpus else Device("cpu", group)
        for index, group in enumerate(_split(usable_cores(), count))
    )


def usable_cores() -> tuple[int, ...]:
    """The cores that this process may use, no more than its container's quota.

    The host's name decides which, so that containers do not all take the first ones.
    """
    allowed = sorted(os.sched_getaffinity(0))
    quota = processor_quota()
    if quota is None or quota >= len(allowed):
        return tuple(allowed)
    first = zlib.crc32(socket.gethostname().encode()) % len(allowed)
    return tuple(sorted([*allowed, *allowed][first : first + max(1, int(quota))]))


def visible_gpus(environment: Mapping[str, str]) -> tuple[str, ...]:
    """The GPUs that a process may use: those in CUDA_VISIBLE_DEVICES, or else all.

    CUDA stops reading the list at its first invalid name, and so does this function.
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


def _gpu_model(gpu: str) -> str:
    import pynvml

    try:
        pynvml.nvmlInit()
        if gpu.isdigit():
            return str(pynvml.nvmlDeviceGetName(pynvml.nvmlDeviceGetHandleByIndex(int(gpu))))
        return str(pynvml.nvmlDeviceGetName(pynvml.nvmlDeviceGetHandleByUUID(gpu)))
    except pynvml.NVMLError:
        return ""


def processor_model(file: Path = _CPUINFO) -> str:
    """The identification of the first core; the architecture if the kernel gives none."""
    entries: dict[str, str] = {}
    for line in _read(file).splitlines():
        name, _, value = line.partition(":")
        entries.setdefault(name.strip(), value.strip())
    known = [name for name in _IDENTIFYING if entries.get(name)]
    told = (entries[name] if name == "model name" else f"{name} {entries[name]}" for name in known)
    return ", ".join(told) or platform.machine()


def _free_memory_mb() -> int:
    available = int(psutil.virtual_memory().available)
    limit = free_memory()
    return (available if limit is None else min(available, limit)) // 2**20


def _split(cpus: tuple[int, ...], count: int) -> list[tuple[int, ...]]:
    """Splits the cores into `count` groups of neighbours; groups share cores if too few."""
    if count > len(cpus):
        return [(cpus[index % len(cpus)],) for index in range(count)]
    edges = [index * len(cpus) // count for index in range(count + 1)]
    return [cpus[first:last] for first, last in pairwise(edges)]


def processor_quota(root: Path = _ROOT) -> float | None:
    """The number of processors whose time the container may use; None without a limit."""
    quota, period = (_read(root / "cpu.max") or "max 0").split()
    if quota == "max":
        quota = _read(root / "cpu" / "cpu.cfs_quota_us") or "-1"
        period = _read(root / "cpu" / "cpu.cfs_period_us") or "0"
    return int(quota) / int(period) if int(quota) > 0 and int(period) > 0 else None


def free_memory(root: Path = _ROOT) -> int | None:
    """The bytes of memory that the container may still use; None without a limit.

    Memory that the kernel uses as a file cache counts as free.
    """
    for folder, limit, usage, cached in (
        (root, "memory.max", "memory.current", "inactive_file"),
        (
            root / "memory",
            "memory.limit_in_bytes",
            "memory.usage_in_bytes",
            "total_inactive_file",
        ),
    ):
        most, used = _read(folder / limit), _read(folder / usage)
        if most and used and most != "max" and int(most) < _NO_LIMIT:
            lines = (line.split() for line in _read(folder / "memory.stat").splitlines())
            spare = sum(int(value) for name, value in lines if name == cached)
            return max(0, int(most) - int(used) + spare)
    return None


def _read(file: Path) -> str:
    """The text of the file; empty if this kernel has no such file."""
    try:
        return file.read_text().strip()
    except OSError:
        return ""
