"""Lanes: threads that take tasks from one queue.

MLflow has no call that updates many runs, so several threads wait for its answers side by side.
"""

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, wait

Task = Callable[[], int]


class Lanes:
    """Several threads that take tasks from one queue."""

    def __init__(self, count: int) -> None:
        self._count = count
        self._pool = ThreadPoolExecutor(count, thread_name_prefix="lane")

    def run(self, tasks: Iterator[Task]) -> int:
        """Runs the tasks and returns the sum of their results.

        A task is taken from `tasks` only when a thread is free. After a task has failed, no other
        begins. Its error is raised once those in progress have ended.
        """
        queue = _Queue(tasks)
        lanes = [self._pool.submit(queue.work) for _ in range(self._count)]
        wait(lanes)
        return sum(lane.result() for lane in lanes)

    def close(self) -> None:
        """Ends the threads."""
        self._pool.shutdown()


class _Queue:
    """Hands tasks to threads, one at a time."""

    def __init__(self, tasks: Iterator[Task]) -> None:
        self._tasks = tasks
        self._taking = threading.Lock()
        self._over = False

    def work(self) -> int:
        """Runs tasks until none is left or one has failed. Returns the sum of their results."""
        done = 0
        while (task := self._next()) is not None:
            try:
                done += task()
            except Exception:
                self._over = True
                raise
        return done

    def _next(self) -> Task | None:
        with self._taking:
            return None if self._over else next(self._tasks, None)
