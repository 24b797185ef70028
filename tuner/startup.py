"""What every process of ours does first: the command, a trainer, the shipper."""

import gc

_ALLOCATIONS = 10_000


def collect_seldom() -> None:
    """Lets the garbage collector run less often than every 700 allocations.

    Imports allocate a million objects that stay; looking through them again and again is a
    fifth of what importing Keras takes.
    """
    gc.set_threshold(_ALLOCATIONS)
