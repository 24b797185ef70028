"""The current time, in the unit of all stored times."""

import time


def now_ms() -> int:
    """Returns the Unix time in milliseconds."""
    return time.time_ns() // 1_000_000
