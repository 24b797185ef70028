"""Measures the appearance of a data set's images, so that photos can be brought into that form."""

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

Background = Literal["dark", "light", "mixed"]

SAMPLE = 2000
DARK, LIGHT = 0.15, 0.85
CONTRAST = 0.1
"""The least distance from the background, in [0, 1], of a pixel of the content."""


@dataclass(frozen=True)
class Appearance:
    """The background of the images, and the share of the image that the content covers."""

    background: Background
    content_fraction: float
    """The median of the larger covered share of height and width, in (0, 1]; 1 if mixed."""


def measure(images: npt.NDArray[Any]) -> Appearance:
    """Measures up to 2,000 images of shape (N, height, width, channels), evenly spread.

    The level of the background is that of the median border pixel, each averaged over the
    images, so that content which touches the border in places does not hide it.
    """
    rows = np.linspace(0, len(images) - 1, min(len(images), SAMPLE)).astype(np.int64)
    grey = _grey(images[rows])
    level = float(np.median(_border(grey).mean(axis=0)))
    if DARK <= level <= LIGHT:
        return Appearance("mixed", 1.0)
    return Appearance("dark" if level < DARK else "light", _content_fraction(grey, level))


def _grey(images: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
    """The mean of the channels, in [0, 1], shape (N, height, width)."""
    scale = 255 if images.dtype == np.uint8 else 1
    grey: npt.NDArray[np.float32] = images.mean(axis=-1, dtype=np.float32) / np.float32(scale)
    return grey


def _border(grey: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """The outermost pixels of each image, shape (N, pixels)."""
    outermost = np.ones(grey.shape[1:], dtype=bool)
    outermost[1:-1, 1:-1] = False
    return grey[:, outermost]


def _content_fraction(grey: npt.NDArray[np.float32], level: float) -> float:
    content = np.abs(grey - level) > CONTRAST
    heights = _extent(content.any(axis=2)) / grey.shape[1]
    widths = _extent(content.any(axis=1)) / grey.shape[2]
    fractions = np.maximum(heights, widths)
    covered = fractions[fractions > 0]
    return float(np.median(covered)) if len(covered) else 1.0


def _extent(marked: npt.NDArray[np.bool_]) -> npt.NDArray[np.int64]:
    """The distance from the first to the last True of each row, both included; 0 without any.

    Shapes: (N, length) to (N,).
    """
    length = marked.shape[1]
    first, last = marked.argmax(axis=1), length - 1 - marked[:, ::-1].argmax(axis=1)
    return np.where(marked.any(axis=1), last - first + 1, 0)
