"""Pictures of an attempt and of a study, as PNG bytes.

Draws on figures of its own, never through pyplot, so nothing here keeps state or needs a
display. A figure is laid out by matplotlib only where texts of any length stand beside its
axes, which takes nearly as long as drawing it. Colours are those of Okabe and Ito
(jfly.uni-koeln.de/color), told apart by people with any kind of colour vision; what a colour
says, a marker or a line style says too.
"""

import io
import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from PIL import Image

from tuner.tracking.events import TrialSummary
from tuner.tracking.tables import TrialPoint
from tuner.training.plan import EpochReport, Evaluation

_BLUE, _ORANGE, _GREEN, _VERMILION, _GREY = "#0072B2", "#E69F00", "#009E73", "#D55E00", "#767676"


class _Style(NamedTuple):
    marker: str
    edge: str
    face: str


_STATE_STYLES = {
    "completed": _Style("o", _BLUE, _BLUE),
    "pruned": _Style("s", _ORANGE, "white"),
}
_FAILED = _Style("x", _VERMILION, _VERMILION)

_ANNOTATED_CLASSES = 20
"""Above this many classes counts no longer fit into their cells."""


def curves_figure(epochs: Sequence[EpochReport], best_epoch: int | None, title: str) -> bytes:
    """Accuracy and loss over epochs side by side, training and validation, best marked."""
    figure = Figure(figsize=(9.5, 3.8))
    figure.subplots_adjust(left=0.085, right=0.985, bottom=0.13, top=0.9, wspace=0.22)
    for axes, metric in zip(figure.subplots(1, 2), ("accuracy", "loss"), strict=True):
        _draw_curve(axes, epochs, metric, "training", _BLUE, "-")
        _draw_curve(axes, epochs, f"val_{metric}", "validation", _VERMILION, "--")
        if best_epoch is not None:
            axes.axvline(best_epoch, color=_GREY, linestyle=":", label=f"best epoch ({best_epoch})")
        _label(axes, "epoch", metric)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        if axes.get_legend_handles_labels()[0]:
            axes.legend(frameon=False)
    figure.suptitle(_literal(title))
    return _png(figure)


def _draw_curve(
    axes: Axes, epochs: Sequence[EpochReport], metric: str, label: str, color: str, style: str
) -> None:
    points = [
        (report.epoch, report.metrics[metric])
        for report in epochs
        if math.isfinite(report.metrics.get(metric, math.nan))
    ]
    if points:
        steps, values = zip(*points, strict=True)
        axes.plot(steps, values, style, color=color, marker="o", markersize=4, label=label)


def confusion_figure(evaluation: Evaluation, title: str, rows: str = "validation") -> bytes:
    """The confusion matrix: colour is the share of the true class, numbers are images."""
    counts = np.asarray(evaluation.confusion)
    labels = [scores.label for scores in evaluation.classes]
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    side = min(3.2 + 0.45 * len(labels), 14)
    figure = _matrix_figure(side + 0.8, side, roomy=_long(labels))
    axes = figure.subplots()
    image = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    _label_classes(axes, labels)
    if len(labels) <= _ANNOTATED_CLASSES:
        _annotate(axes, counts, shares)
    figure.colorbar(image, ax=axes, label="share of the true class", shrink=0.85)
    axes.set_title(f"{_literal(title)}: {rows} accuracy {evaluation.accuracy:.4f}")
    return _png(figure)


def _matrix_figure(width: float, height: float, *, roomy: bool) -> Figure:
    """A figure of that many inches; a `roomy` one makes room for labels of any length."""
    if roomy:
        return Figure(figsize=(width, height), layout="constrained")
    figure = Figure(figsize=(width, height))
    left, right, bottom, top = 0.65 / width, 1 - 0.3 / width, 0.55 / height, 1 - 0.35 / height
    figure.subplots_adjust(left=left, right=right, bottom=bottom, top=top)
    return figure


def _label_classes(axes: Axes, labels: Sequence[str]) -> None:
    shown = range(0, len(labels), math.ceil(len(labels) / 40))
    names = [_literal(labels[index]) for index in shown]
    axes.set_xticks(shown, names)
    if _long(labels):
        for label in axes.get_xticklabels():
            label.set(rotation=45, ha="right", rotation_mode="anchor")
    axes.set_yticks(shown, names)
    axes.set(xlabel="predicted", ylabel="true")


def _long(labels: Sequence[str]) -> bool:
    """Whether labels have to be slanted, and the figure to make room for them."""
    return max(len(label) for label in labels) > 3


def _annotate(axes: Axes, counts: npt.NDArray[Any], shares: npt.NDArray[Any]) -> None:
    for (row, column), count in np.ndenumerate(counts):
        color = "white" if shares[row, column] > 0.5 else "black" if count else "#bbbbbb"
        text = axes.text(column, row, f"{count:d}", ha="center", va="center", fontsize=8)
        text.set(color=color, in_layout=False)


def history_figure(
    trials: Sequence[TrialSummary], history: Sequence[TrialPoint], metric: str
) -> bytes:
    """Every trial's value and the best point's mean so far; states told by marker."""
    figure = Figure(figsize=(7.5, 4.2), layout="constrained")
    axes = figure.subplots()
    _draw_best(axes, history)
    for state in _STATE_STYLES:
        _draw_trials(axes, history, state)
    _draw_unvalued(axes, trials)
    _label(axes, "trial", metric)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    if axes.get_legend_handles_labels()[0]:
        axes.legend(frameon=False)
    return _png(figure)


def _draw_best(axes: Axes, history: Sequence[TrialPoint]) -> None:
    points = [(point.number, point.best) for point in history if point.best is not None]
    if points:
        numbers, values = zip(*points, strict=True)
        axes.step(numbers, values, where="post", color=_GREEN, label="best so far")


def _draw_trials(axes: Axes, history: Sequence[TrialPoint], state: str) -> None:
    points = [(point.number, point.value) for point in history if point.state == state]
    if points:
        numbers, values = zip(*points, strict=True)
        style = _STATE_STYLES[state]
        axes.scatter(
            numbers,
            values,
            s=36,
            marker=style.marker,
            facecolors=style.face,
            edgecolors=style.edge,
            linewidths=1.5,
            zorder=3,
            label=state,
        )


def _draw_unvalued(axes: Axes, trials: Sequence[TrialSummary]) -> None:
    """Failed trials have no value; they stand on the lower edge."""
    numbers = [trial.number for trial in trials if trial.state == "failed"]
    if numbers:
        axes.scatter(
            numbers,
            [0.0] * len(numbers),
            s=36,
            marker=_FAILED.marker,
            color=_FAILED.edge,
            zorder=3,
            clip_on=False,
            transform=axes.get_xaxis_transform(),
            label="failed",
        )


def importance_figure(importance: Mapping[str, float]) -> bytes:
    """One bar a parameter, the most important on top."""
    ranked = sorted(importance.items(), key=lambda pair: pair[1])
    names, shares = zip(*ranked, strict=True)
    figure = Figure(figsize=(7, 1.4 + 0.38 * len(names)), layout="constrained")
    axes = figure.subplots()
    bars = axes.barh([_literal(name) for name in names], shares, color=_BLUE, height=0.65)
    axes.bar_label(bars, fmt="%.2f", padding=3)
    axes.set_xlim(0, max(1e-9, *shares) * 1.12)
    _label(axes, "importance (share)", "")
    axes.grid(visible=False, axis="y")
    return _png(figure)


def _label(axes: Axes, x: str, y: str) -> None:
    axes.set(xlabel=x, ylabel=y)
    axes.grid(visible=True, alpha=0.3)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)


def _literal(text: str) -> str:
    """The text without matplotlib's formulas."""
    return text.replace("$", r"\$")


def _png(figure: Figure) -> bytes:
    """The figure at 120 dots an inch, the same bytes for the same picture.

    Drawn once. `savefig` draws a figure that lays itself out a second time, in case the first
    changed the layout; here nothing but the layout itself depends on it.
    """
    figure.set_dpi(120)
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    buffer = io.BytesIO()
    Image.fromarray(np.asarray(canvas.buffer_rgba())[..., :3]).save(buffer, format="png")
    return buffer.getvalue()
