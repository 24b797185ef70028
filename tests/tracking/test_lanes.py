"""Lanes: tasks side by side, each once, and none begun after one has failed."""

import threading
from collections.abc import Iterator
from contextlib import closing
from functools import partial

import pytest

from tests.waiting import LONGEST_S
from tuner.tracking.shipping.lanes import Lanes, Task


def test_every_task_is_done_once() -> None:
    with closing(Lanes(4)) as lanes:
        assert lanes.run(partial(int, number) for number in range(100)) == sum(range(100))
        assert lanes.run(iter(())) == 0


def test_tasks_are_done_side_by_side() -> None:
    together = threading.Barrier(3, timeout=LONGEST_S)

    def task() -> int:
        together.wait()
        return 1

    with closing(Lanes(3)) as lanes:
        assert lanes.run(iter([task] * 6)) == 6


@pytest.mark.parametrize("count", [1, 4])
def test_nothing_begins_once_a_task_has_failed(count: int) -> None:
    begun = []

    def tasks() -> Iterator[Task]:
        for number in range(100):
            begun.append(number)
            yield failing

    def failing() -> int:
        raise OSError("away")

    with closing(Lanes(count)) as lanes:
        with pytest.raises(OSError, match="away"):
            lanes.run(tasks())
        assert len(begun) <= count
        assert lanes.run(iter([lambda: 1])) == 1
