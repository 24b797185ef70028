"""Threads that share one queue of tasks: a lane takes the next task as soon as it is free.

MLflow has no call that updates many runs, so several lanes wait for its answers side by side.
"""

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, wait

Task = Callable[[], int]


class Lanes:
    """A number of threads that share one queue of tasks."""

    def __init__(self, count: int) -> None:
        self._count = count
        self._pool = ThreadPoolExecutor(count, thread_name_prefix="lane")

    def run(self, tasks: Iterator[Task]) -> int:
        """Does the tasks, which need not be known before their turn; returns the sum of them.

        Once a task has failed no other one begins. Its error is raised when those that had begun
        have ended.
        """
        queue = _Queue(tasks)
        lanes = [self._pool.submit(queue.work) for _ in range(self._count)]
        wait(lanes)
        return sum(lane.result() for lane in lanes)

    def close(self) -> None:
        """Ends the threads."""
        self._pool.shutdown()


class _Queue:
    """Hands out one task at a time."""

    def __init__(self, tasks: Iterator[Task]) -> None:
        self._tasks = tasks
        self._taking = threading.Lock()
        self._over = False

    def work(self) -> int:
        """Does tasks until there are none, or one has failed."""
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
