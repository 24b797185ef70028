"""Draws images with captions, in groups."""

import math

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from tuner.datasets.store import read_arrays
from tuner.tracking.runs.figures import ImageGroup, ImagesFigure, MissedFigure
from tuner.tracking.runs.study_drawing import as_png, literal
from tuner.tracking.spool.spool_events import MissedImage
from tuner.words import count

_COLUMNS = 10
_INCHES = 1.0
"""The width of an image's place."""
_CAPTION = 0.55
"""The height of a caption, as a share of the width of an image's place."""
_HEADING = 0.35
"""The height of a title, in inches."""
_SHOWN = 60
"""The number of missed images that are drawn."""
_LONGEST = 16
"""The number of characters of a caption's line that fit into an image's place."""


def draw_images(content: ImagesFigure) -> bytes:
    """Draws the figure as PNG."""
    heights = [_HEADING + _INCHES * _rows(group) * (1 + _CAPTION) for group in content.groups]
    size = _COLUMNS * _INCHES, sum(heights) + _HEADING
    figure = Figure(figsize=size)
    figure.text(
        0.01, 1 - _HEADING / 2 / size[1], literal(content.title), fontsize="large", va="center"
    )
    top = size[1] - _HEADING
    for group, height in zip(content.groups, heights, strict=True):
        top -= height
        place = (0, top / size[1], 1, (height - _HEADING) / size[1])
        _draw_group(figure.add_axes(place), group)
    return as_png(figure)


def draw_missed(content: MissedFigure) -> bytes:
    """Draws the figure as PNG."""
    found = content.missed.images
    shown = found[:_SHOWN]
    some = f", of which the first {len(shown)}" if len(shown) < len(found) else ""
    pixels, _ = read_arrays(content.missed.folder)
    group = ImageGroup(
        title=f"row; label → predicted; mean probability, trainings{some}",
        images=np.array([pixels[each.row] for each in shown]),
        captions=[_missed_caption(each) for each in shown],
    )
    missed = count(len(found), "validation image")
    title = f"{content.study}: {missed} missed by every good training"
    return draw_images(ImagesFigure([group] if shown else [], title))


def _missed_caption(image: MissedImage) -> str:
    return (
        f"{image.row}\n{image.label} → {image.predicted}\n"
        f"{image.probability:.3f}, {image.agreeing} of {image.trainings}"
    )


def _rows(group: ImageGroup) -> int:
    return math.ceil(len(group.images) / _COLUMNS)


def _draw_group(axes: Axes, group: ImageGroup) -> None:
    axes.set_axis_off()
    axes.set_title(literal(group.title), loc="left", fontsize="medium", x=0.01)
    for number, (image, caption) in enumerate(zip(group.images, group.captions, strict=True)):
        row, column = divmod(number, _COLUMNS)
        _draw_image(axes, image, column, row * (1 + _CAPTION))
        lines = (literal(_shortened(line)) for line in caption.splitlines())
        text = "\n".join(lines)
        under = row * (1 + _CAPTION) + 1
        axes.text(column + 0.5, under, text, fontsize=7, ha="center", va="top")
    axes.set(xlim=(0, _COLUMNS), ylim=(_rows(group) * (1 + _CAPTION), 0), aspect="auto")


def _draw_image(axes: Axes, image: npt.NDArray[np.generic], left: float, top: float) -> None:
    """Draws an image into the middle of the place whose corner is given, as wide or high as it."""
    height, width = image.shape[:2]
    scale = 0.9 / max(height, width)
    across, down = (1 - width * scale) / 2, (1 - height * scale) / 2
    extent = (left + across, left + 1 - across, top + 1 - down, top + down)
    axes.imshow(_visible(image), extent=extent, cmap="gray", vmin=0, vmax=1)


def _visible(image: npt.NDArray[np.generic]) -> npt.NDArray[np.floating]:
    """As floats in [0, 1]: with three channels in colours, else their mean."""
    pixels = image.astype(np.float32) / (255 if image.dtype == np.uint8 else 1)
    return pixels if image.shape[2] == 3 else pixels.mean(axis=2)


def _shortened(line: str) -> str:
    return line if len(line) <= _LONGEST else f"{line[: _LONGEST - 1]}…"
