"""What every process of ours does first: the command, a trainer, the shipper and the rest."""

import gc
import os

_ALLOCATIONS = 10_000


def settle() -> None:
    """Makes this process its own: how it collects garbage, and how it would draw.

    The garbage collector runs less often than every 700 allocations. Imports allocate a million
    objects that stay; looking through them again and again is a fifth of what importing Keras
    takes.

    Whatever draws here draws into files. A notebook hands its `MPLBACKEND` down to what it starts,
    and Matplotlib, which Keras imports, cannot be imported where that backend is not installed.
    """
    gc.set_threshold(_ALLOCATIONS)
    os.environ["MPLBACKEND"] = "agg"
