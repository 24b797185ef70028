"""Finds the drawing on a plain background, and frames it as a data set does.

The subject is what differs clearly from the background, whether it is lighter or darker.
"""

from math import ceil
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from tuner.datasets.pictures.background import Mask, Pixels, background, border, otsu, spread
from tuner.datasets.transform import Framing

_WORKING_SIDE = 1024
"""The size of the larger side to which larger pictures are reduced before the search."""
_SMOOTHED_TO = 256
"""Detail finer than this fraction (1/256) of the larger side is noise, not a stroke."""
_LEAST_CONTRAST = 0.06
"""The least contrast, of full scale. Pencil on paper has 0.3, plain paper less than 0.03."""
_LEAST_AREA = 1e-4
"""The least share of the picture that a subject covers; less is dust."""
_NOISE_SIGMAS = 5.0
_TRIMMED = 0.002
"""The share of the subject's pixels that each side of its box may leave out as specks."""
_MARGIN = 0.3
"""The background around the subject in a close-up, as a share of the subject's larger side."""
_FULL_INK = 80
"""The percentile of the subject's contrast that becomes full scale."""


class _Box(NamedTuple):
    top: int
    bottom: int
    left: int
    right: int


class _Subject(NamedTuple):
    lighter: bool
    """Whether it is lighter than the background."""
    ink: Pixels
    """The strength of each pixel and channel, (H, W, C): 0 is background, 1 fully drawn."""
    box: _Box


def framed(picture: Pixels, image_shape: tuple[int, int, int], framing: Framing) -> Pixels | None:
    """Frames a picture's subject (H, W, C) with the data's polarity, scale and position.

    Returns:
        float32 pixels in [0, 1] of shape `image_shape`, or None if there is no subject. A picture
        that has the data's shape and polarity already is returned unchanged.
    """
    whole = _find(picture)
    if whole is None:
        return None
    if picture.shape == image_shape and whole.lighter == (framing.ground == "dark"):
        return picture
    # A small subject is searched again in a close-up, where its outline is sharp.
    near = _find(_close_up(picture, whole)) or whole
    placed = _placed(near.ink, near.box, image_shape, framing.content_fraction)
    return placed if framing.ground == "dark" else 1 - placed


def _find(picture: Pixels) -> _Subject | None:
    small = _reduced(picture)
    deviation = small - background(small)
    smooth = _smooth(deviation.mean(axis=2))
    noise = _NOISE_SIGMAS * spread(smooth[border(smooth.shape)])
    threshold = max(otsu(np.abs(smooth)), noise, _LEAST_CONTRAST)
    clear = np.abs(smooth) > threshold
    if clear.mean() < _LEAST_AREA:
        return None
    lighter = float(smooth[clear].sum()) > 0
    sign = np.float32(1 if lighter else -1)
    full = float(np.percentile(np.abs(smooth[clear]), _FULL_INK))
    faintest = min(max(noise, _LEAST_CONTRAST / 2), full / 2)
    ink = ((sign * deviation - faintest) / (full - faintest)).clip(0, 1)
    return _Subject(lighter, ink, _box(sign * smooth > max(threshold / 2, faintest)))


def _close_up(picture: Pixels, subject: _Subject) -> Pixels:
    """Cuts out the subject with enough background around it to fit the background."""
    scale = picture.shape[0] / subject.ink.shape[0]
    top, bottom, left, right = (round(scale * edge) for edge in subject.box)
    margin = round(_MARGIN * max(bottom - top, right - left))
    rows = slice(max(top - margin, 0), bottom + margin)
    columns = slice(max(left - margin, 0), right + margin)
    return picture[rows, columns]


def _reduced(picture: Pixels) -> Pixels:
    height, width = picture.shape[:2]
    scale = _WORKING_SIDE / max(height, width)
    return picture if scale >= 1 else _resized(picture, round(height * scale), round(width * scale))


def _resized(
    picture: Pixels,
    height: int,
    width: int,
    window: tuple[float, float, float, float] | None = None,
) -> Pixels:
    """Resizes each channel, or its window, with antialiasing; sides are at least one pixel."""
    size = (max(height, 1), max(width, 1))
    # Pillow takes width before height, and the channels of `picture.T` are transposed: both
    # swaps cancel.
    channels = (Image.fromarray(np.ascontiguousarray(channel)) for channel in picture.T)
    resized = [
        np.asarray(channel.resize(size, Image.Resampling.BICUBIC, window)) for channel in channels
    ]
    stacked: Pixels = np.stack(resized).T
    return stacked.clip(0, 1)


def _smooth(deviation: Pixels) -> Pixels:
    """Removes detail that is finer than a stroke from a large picture."""
    height, width = deviation.shape
    factor = max(height, width) // _SMOOTHED_TO
    if factor <= 1:
        return deviation
    coarse = (max(1, width // factor), max(1, height // factor))
    image = Image.fromarray(deviation).resize(coarse, Image.Resampling.BOX)
    return np.asarray(image.resize((width, height), Image.Resampling.BILINEAR))


def _box(subject: Mask) -> _Box:
    """The rows and columns that contain the subject, except for specks."""
    return _Box(*_extent(subject.sum(axis=1)), *_extent(subject.sum(axis=0)))


def _extent(counts: NDArray[np.integer]) -> tuple[int, int]:
    allowed = _TRIMMED * counts.sum()
    first = int(np.argmax(np.cumsum(counts) > allowed))
    last = len(counts) - int(np.argmax(np.cumsum(counts[::-1]) > allowed))
    return first, last


def _placed(
    ink: Pixels, box: _Box, image_shape: tuple[int, int, int], content_fraction: float
) -> Pixels:
    """Scales the box to the data's share of the frame, with its centre of mass in the middle.

    Both are exact to fractions of a pixel: rounding a side would distort the shape.
    """
    height, width, _ = image_shape
    subject = ink[box.top : box.bottom, box.left : box.right]
    scale = content_fraction * min(height / subject.shape[0], width / subject.shape[1])
    top, bottom = _visible(subject.sum(axis=(1, 2)), height, scale)
    left, right = _visible(subject.sum(axis=(0, 2)), width, scale)
    before, after = ceil(max(-top, -left, 0)), ceil(max(bottom, right))
    padding = [(before, max(after - side, 0)) for side in subject.shape[:2]]
    padded = np.pad(subject, [*padding, (0, 0)])
    window = (top + before, left + before, bottom + before, right + before)
    return _resized(padded, height, width, window)


def _visible(masses: Pixels, frame: int, scale: float) -> tuple[float, float]:
    """The first and last position, in the subject's pixels, that a frame of `frame` pixels shows.

    The centre of mass is in the middle, as far as all of the subject stays visible. As in MNIST,
    the middle is the pixel `frame // 2`, half a pixel past the geometric one.
    """
    positions = np.arange(len(masses)) + 0.5
    centre = float(np.average(positions, weights=masses)) if masses.any() else len(masses) / 2
    seen = frame / scale
    first = float(np.clip(centre - (frame // 2 + 0.5) / scale, len(masses) - seen, 0))
    return first, first + seen
