"""The background of a picture: its level, its noise, and the threshold of clear contrast.

The background is a plane fitted to the picture's border, so that uneven light on the paper does
not matter. Arrays of a picture are float32 in [0, 1].
"""

import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[np.float32]
Mask = NDArray[np.bool_]

_BORDER = 0.04
"""The width of the border strip, as a share of the smaller side."""


def border(shape: tuple[int, ...]) -> Mask:
    """The strip along the edges, as a mask of shape (H, W), for a picture of shape (H, W, ...)."""
    width = max(1, round(_BORDER * min(shape[:2])))
    mask = np.ones(shape[:2], dtype=bool)
    mask[width:-width, width:-width] = False
    return mask


def background(picture: Pixels) -> Pixels:
    """A plane through the border of each channel, robust to drawings there; shapes (H, W, C)."""
    rows, columns = np.indices(picture.shape[:2], dtype=np.float64) / max(picture.shape[:2])
    positions = np.stack([np.ones_like(rows), rows, columns], axis=-1)
    strip = border(picture.shape)
    planes = [
        positions @ _robust_plane(positions[strip], channel[strip].astype(np.float64))
        for channel in np.moveaxis(picture, -1, 0)
    ]
    return np.stack(planes, axis=-1).astype(np.float32)


def _robust_plane(
    positions: NDArray[np.float64], values: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Fits a plane by least squares, three times, each time without the values that are far off."""
    plane = np.array([np.median(values), 0.0, 0.0])
    for _ in range(3):
        off = np.abs(values - positions @ plane)
        kept = off <= 3 * 1.4826 * np.median(off) + 1 / 255
        plane = np.linalg.lstsq(positions[kept], values[kept], rcond=None)[0]
    return plane


def spread(values: Pixels) -> float:
    """The standard deviation of a normal distribution with the median deviation of the values."""
    return 1.4826 * float(np.median(np.abs(values - np.median(values))))


def otsu(strengths: Pixels) -> float:
    """The level in [0, 1] that separates two classes best: with the largest variance between them.

    Source: N. Otsu, IEEE Trans. SMC 9 (1979), 62-66.
    """
    counts, edges = np.histogram(strengths, bins=256, range=(0.0, 1.0))
    middles = (edges[:-1] + edges[1:]) / 2
    below = np.cumsum(counts)
    above = below[-1] - below
    sums = np.cumsum(counts * middles)
    with np.errstate(divide="ignore", invalid="ignore"):
        distance = sums / below - (sums[-1] - sums) / above
    variance = np.nan_to_num(below * above * distance**2)
    return float(edges[1 + int(variance.argmax())])
