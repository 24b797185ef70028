"""The settings that every process of tuner makes first."""

import gc
import os

_ALLOCATIONS = 10_000


def configure_process() -> None:
    """Makes the garbage collector run less often, and makes Matplotlib draw into files.

    Imports allocate a million objects that stay. With Python's default of 700 allocations per
    collection, examining them repeatedly takes a fifth of the time of importing Keras.

    A notebook's child processes inherit its `MPLBACKEND`. Keras imports Matplotlib, whose import
    fails if that backend is not installed.
    """
    gc.set_threshold(_ALLOCATIONS)
    os.environ["MPLBACKEND"] = "agg"
