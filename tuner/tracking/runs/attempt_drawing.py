"""Draws the figures of an attempt: its curves and its confusion matrix.

Every trial has both. So axes and labels, which many trials share, are drawn once and kept, and only
the rest is drawn again. This is six times as fast as a new figure.
"""

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.cm import ScalarMappable
from matplotlib.collections import PathCollection, QuadMesh
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.lines import Line2D
from matplotlib.path import Path
from matplotlib.textpath import TextPath
from matplotlib.ticker import MaxNLocator
from matplotlib.transforms import Affine2D

from tuner.tracking.runs.figures import ConfusionFigure, CurvesFigure
from tuner.tracking.runs.study_drawing import (
    BLUE,
    DPI,
    GREY,
    VERMILION,
    encoded,
    label_axes,
    literal,
)
from tuner.training.plan import EpochReport

_ANNOTATED_CLASSES = 20
"""With more classes the counts do not fit into their cells."""

_POINTS = 8
"""Font size of the counts in the cells."""


def draw_curves(content: CurvesFigure) -> bytes:
    """Draws the figure as PNG."""
    last = max(report.epoch for report in content.epochs)
    return _curves(last, content.best_epoch is not None).png(content)


def draw_confusion(content: ConfusionFigure) -> bytes:
    """Draws the figure as PNG."""
    labels = tuple(scores.label for scores in content.evaluation.classes)
    return _matrix(labels).png(content)


class _Template:
    """A figure whose constant parts are drawn once (matplotlib's blitting)."""

    def __init__(self, figure: Figure, moving: Sequence[Artist]) -> None:
        figure.set_dpi(DPI)
        self._canvas = FigureCanvasAgg(figure)
        for artist in moving:
            artist.set_animated(True)
        self._canvas.draw()
        self._unmoving = self._canvas.copy_from_bbox(figure.bbox)
        self._moving = moving

    def png(self) -> bytes:
        """The figure with its changing parts as they are now."""
        self._canvas.restore_region(self._unmoving)
        for artist in self._moving:
            artist.draw(self._canvas.get_renderer())
        return encoded(self._canvas)


class _Curves:
    """The figure of trainings that ended with the same epoch."""

    def __init__(self, last_epoch: int, *, has_best: bool) -> None:
        figure = Figure(figsize=(9.5, 3.8))
        figure.subplots_adjust(left=0.085, right=0.985, bottom=0.13, top=0.87, wspace=0.22)
        axes = figure.subplots(1, 2)
        names = "accuracy", "loss"
        self._panels = [
            _Panel(each, name, last_epoch, has_best=has_best)
            for each, name in zip(axes, names, strict=True)
        ]
        key = self._panels[0].lines
        figure.legend(handles=key, loc="upper right", ncols=len(key), frameon=False)
        self._title = figure.text(0.085, 0.925, "", fontsize="large")
        moving = [artist for panel in self._panels for artist in panel.moving]
        self._template = _Template(figure, [*moving, self._title])

    def png(self, content: CurvesFigure) -> bytes:
        for panel in self._panels:
            panel.show(content)
        best = "" if content.best_epoch is None else f", best epoch {content.best_epoch}"
        self._title.set_text(f"{literal(content.title)}{best}")
        return self._template.png()


@lru_cache(maxsize=8)
def _curves(last_epoch: int, has_best: bool) -> _Curves:
    return _Curves(last_epoch, has_best=has_best)


class _Panel:
    """One metric by epoch."""

    def __init__(self, axes: Axes, metric: str, last_epoch: int, *, has_best: bool) -> None:
        self._axes = axes
        self._curves = {
            metric: _curve(axes, "training", BLUE, "-"),
            f"val_{metric}": _curve(axes, "validation", VERMILION, "--"),
        }
        margin = 0.05 * max(last_epoch - 1, 1)
        axes.set_xlim(1 - margin, last_epoch + margin)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        label_axes(axes, "epoch", metric)
        self._best = axes.axvline(1, color=GREY, linestyle=":", label="best epoch")
        marks = [self._best] if has_best else []
        self._best.set_visible(has_best)
        self.lines = [*self._curves.values(), *marks]

    @property
    def moving(self) -> list[Artist]:
        """The parts that differ between attempts: the scale of values, and the lines."""
        return [self._axes.yaxis, *self.lines]

    def show(self, content: CurvesFigure) -> None:
        for metric, line in self._curves.items():
            line.set_data(*_finite(content.epochs, metric))
        if content.best_epoch is not None:
            self._best.set_xdata([content.best_epoch] * 2)
        values = np.concatenate([line.get_ydata() for line in self._curves.values()])
        low, high = (float(values.min()), float(values.max())) if values.size else (0.0, 1.0)
        margin = 0.05 * (high - low) or 0.05 * abs(high) or 0.05
        self._axes.set_ylim(low - margin, high + margin)


def _curve(axes: Axes, label: str, color: str, style: str) -> Line2D:
    (line,) = axes.plot([], [], style, color=color, marker="o", markersize=4, label=label)
    return line


def _finite(epochs: Sequence[EpochReport], metric: str) -> tuple[list[int], list[float]]:
    """Epochs and values of a metric, without values that are not finite."""
    told = [(report.epoch, report.metrics.get(metric, math.nan)) for report in epochs]
    points = [(epoch, value) for epoch, value in told if math.isfinite(value)]
    return [epoch for epoch, _ in points], [value for _, value in points]


class _Matrix:
    """The figure of evaluations with the same classes."""

    def __init__(self, labels: Sequence[str]) -> None:
        self._annotated = len(labels) <= _ANNOTATED_CLASSES
        side = min(3.2 + 0.45 * len(labels), 14)
        figure = _matrix_figure(side + 0.8, side, roomy=_long(labels))
        axes = self._axes = figure.subplots()
        self._cells = _cells(axes, len(labels), few=self._annotated)
        self._counts = PathCollection((), offset_transform=axes.transData, linewidths=0)
        self._counts.set_transform(Affine2D().scale(DPI / 72))
        self._counts.set_figure(figure)
        _label_classes(axes, labels)
        scale = ScalarMappable(self._cells.norm, self._cells.cmap)
        figure.colorbar(scale, ax=axes, label="share of the true class", shrink=0.85)
        self._title = axes.set_title(" ")
        moving = [self._cells, *axes.spines.values(), self._counts, self._title]
        self._template = _Template(figure, moving)

    def png(self, content: ConfusionFigure) -> bytes:
        counts = np.asarray(content.evaluation.confusion)
        shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
        self._cells.set_array(shares)
        if self._annotated:
            self._annotate(counts, shares)
        accuracy = f"{content.rows} accuracy {content.evaluation.accuracy:.4f}"
        self._title.set_text(f"{literal(content.title)}: {accuracy}")
        return self._template.png()

    def _annotate(self, counts: npt.NDArray[Any], shares: npt.NDArray[Any]) -> None:
        """Sets all counts at once, thirty times as fast as one text for each cell."""
        rows, columns = np.indices(counts.shape)
        self._counts.set_paths([_centred(f"{count:d}") for count in counts.flat])
        self._counts.set_offsets(np.column_stack([columns.flat, rows.flat]))
        self._counts.set_facecolor(
            [
                "white" if share > 0.5 else "black" if count else "#bbbbbb"
                for count, share in zip(counts.flat, shares.flat, strict=True)
            ]
        )


@lru_cache(maxsize=8)
def _matrix(labels: tuple[str, ...]) -> _Matrix:
    return _Matrix(labels)


def _cells(axes: Axes, classes: int, *, few: bool) -> QuadMesh | AxesImage:
    """A mesh for few classes, which is quick to draw; else an image, which shows all cells."""
    blank = np.zeros((classes, classes))
    if not few:
        return axes.imshow(blank, cmap="Blues", vmin=0, vmax=1)
    edges = np.arange(classes + 1) - 0.5
    cells = axes.pcolormesh(edges, edges, blank, cmap="Blues", vmin=0, vmax=1)
    axes.set(xlim=(edges[0], edges[-1]), ylim=(edges[-1], edges[0]), aspect="equal")
    return cells


@lru_cache(maxsize=10_000)
def _centred(number: str) -> Path:
    """The outline of a number, in points, with its middle at the origin."""
    outline = TextPath((0, 0), number, size=_POINTS)
    across, up = outline.get_extents(), TextPath((0, 0), "0", size=_POINTS).get_extents()
    middle = (across.x0 + across.x1) / 2, (up.y0 + up.y1) / 2
    return Affine2D().translate(-middle[0], -middle[1]).transform_path(outline)


def _matrix_figure(width: float, height: float, *, roomy: bool) -> Figure:
    """A figure of that size in inches; `roomy` makes room for labels of any length."""
    if roomy:
        return Figure(figsize=(width, height), layout="constrained")
    figure = Figure(figsize=(width, height))
    left, right, bottom, top = 0.65 / width, 1 - 0.3 / width, 0.55 / height, 1 - 0.35 / height
    figure.subplots_adjust(left=left, right=right, bottom=bottom, top=top)
    return figure


def _label_classes(axes: Axes, labels: Sequence[str]) -> None:
    shown = range(0, len(labels), math.ceil(len(labels) / 40))
    names = [literal(labels[index]) for index in shown]
    axes.set_xticks(shown, names)
    if _long(labels):
        for label in axes.get_xticklabels():
            label.set(rotation=45, ha="right", rotation_mode="anchor")
    axes.set_yticks(shown, names)
    axes.set(xlabel="predicted", ylabel="true")


def _long(labels: Sequence[str]) -> bool:
    """Whether labels must be slanted, and the figure must make room for them."""
    return max(len(label) for label in labels) > 3
