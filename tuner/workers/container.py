"""What the limits of a container leave of the machine: processor time and memory.

Read from the control group's files as a container sees its own, version 2 or 1; see the
kernel's admin-guide/cgroup-v2 and cgroup-v1. Where there is no limit there is nothing to say.
"""

from pathlib import Path

_ROOT = Path("/sys/fs/cgroup")
_NO_LIMIT = 2**60
"""Version 1 says the largest page-aligned number for no limit of memory."""


def processor_quota(root: Path = _ROOT) -> float | None:
    """How many processors' time the container may use, None for no limit."""
    quota, period = (_read(root / "cpu.max") or "max 0").split()
    if quota == "max":
        quota = _read(root / "cpu" / "cpu.cfs_quota_us") or "-1"
        period = _read(root / "cpu" / "cpu.cfs_period_us") or "0"
    return int(quota) / int(period) if int(quota) > 0 and int(period) > 0 else None


def free_memory(root: Path = _ROOT) -> int | None:
    """How many bytes the container may still take, None for no limit.

    Files that the kernel only keeps because there is room do not count as taken.
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
    """What the file says; nothing where this kernel has no such file."""
    try:
        return file.read_text().strip()
    except OSError:
        return ""
