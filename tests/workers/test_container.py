"""Limits are read from files as the kernel writes them."""

from pathlib import Path

import pytest

from tuner.workers.devices import free_memory, processor_quota


def written(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    return root


@pytest.mark.parametrize(
    ("files", "processors"),
    [
        ({}, None),
        ({"cpu.max": "max 100000\n"}, None),
        ({"cpu.max": "150000 100000\n"}, 1.5),
        ({"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}, None),
        ({"cpu/cpu.cfs_quota_us": "400000\n", "cpu/cpu.cfs_period_us": "100000\n"}, 4.0),
    ],
)
def test_a_quota_is_so_many_processors(
    tmp_path: Path, files: dict[str, str], processors: float | None
) -> None:
    assert processor_quota(written(tmp_path, files)) == processors


@pytest.mark.parametrize(
    ("files", "left"),
    [
        ({}, None),
        ({"memory.max": "max\n", "memory.current": "5\n"}, None),
        ({"memory.max": "4096\n", "memory.current": "1024\n"}, 3072),
        ({"memory.max": "4096\n", "memory.current": "8192\n"}, 0),
        (
            {
                "memory.max": "4096\n",
                "memory.current": "4096\n",
                "memory.stat": "anon 1\ninactive_file 1000\nactive_file 5\n",
            },
            1000,
        ),
        (
            {
                "memory/memory.limit_in_bytes": "9223372036854771712\n",
                "memory/memory.usage_in_bytes": "1024\n",
            },
            None,
        ),
        (
            {
                "memory/memory.limit_in_bytes": "8192\n",
                "memory/memory.usage_in_bytes": "1024\n",
                "memory/memory.stat": "inactive_file 7\ntotal_inactive_file 24\n",
            },
            7192,
        ),
    ],
)
def test_what_a_limit_leaves_of_memory(
    tmp_path: Path, files: dict[str, str], left: int | None
) -> None:
    assert free_memory(written(tmp_path, files)) == left
