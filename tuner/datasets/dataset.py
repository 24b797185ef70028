"""The result of a data set function: images and labels, split into training and test rows."""

from dataclasses import dataclass
from typing import Any

import numpy.typing as npt

from tuner.datasets.transform import PLAIN, Reading


@dataclass(frozen=True, eq=False)
class Split:
    """Images and their labels, row by row.

    `images` has shape (N, height, width) or (N, height, width, channels) and holds either
    whole numbers in [0, 255] or floating-point numbers in [0, 1]. `labels` has shape (N,)
    and holds whole numbers that index the data set's classes.
    """

    images: npt.NDArray[Any]
    labels: npt.NDArray[Any]


@dataclass(frozen=True, eq=False)
class Dataset:
    """The training and test rows, the names of the classes, and the source."""

    train: Split
    test: Split
    classes: tuple[str, ...]
    """The names of the classes in the order of the labels; empty if they are just numbered."""
    source: str
    """The source for people: an address, a file, a package."""
    reading: Reading = PLAIN
    """How to read picture files as its images."""
    files: tuple[str, ...] = ()
    """The name of each training image's file, for people; empty if they have none."""
