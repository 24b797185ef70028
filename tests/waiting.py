"""Waits for what another process or thread is about to do."""

import time
from collections.abc import Callable

LONGEST_S = 600.0
"""What takes longer hangs, on a machine that is busy with other work too."""


def wait_until(condition: Callable[[], object], timeout_s: float = LONGEST_S) -> None:
    """Returns once the condition holds; fails when it never does."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, f"the condition did not come true in {timeout_s} s"
        time.sleep(0.03)
