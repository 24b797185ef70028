"""Prepared data sets on disk: the only form in which anyone reads one.

    ROOT/<name>-<digest>/dataset.json      a DatasetInfo
                        /train/images.npy  labels.npy
                        /test/images.npy   labels.npy

A trainer is handed the `train` folder and cannot reach a test row by accident.
"""

from pathlib import Path
from typing import Literal

from tuner.spec.search_space import Frozen


class DatasetInfo(Frozen):
    """What is known of a prepared data set without opening an array."""

    name: str
    digest: str
    """SHA-256 over shapes, types and bytes of all four arrays, hexadecimal."""
    source: str
    """Where the arrays came from, for people."""
    folder: Path
    image_shape: tuple[int, int, int]
    """Height, width, channels."""
    classes: tuple[str, ...]
    train_count: int
    test_count: int
    background: Literal["dark", "light", "mixed"]
    """Whether the images' borders are plainly dark or light, for reading photographs."""
    content_fraction: float
    """Median share of the height or width, whichever is larger, that the content covers."""

    @property
    def train(self) -> Path:
        """The folder of the training rows."""
        return self.folder / "train"

    @property
    def test(self) -> Path:
        """The folder of the test rows; only promotion and evaluation open it."""
        return self.folder / "test"
