"""Draws the figures of a study, and has what all drawings share: colours, labels, PNG.

Draws with matplotlib without pyplot, so that nothing keeps state or needs a display. The colours
are those of Okabe and Ito (jfly.uni-koeln.de/color), which people with any colour vision can
distinguish. Markers and line styles repeat what colours show.
"""

import io
from collections.abc import Sequence
from typing import NamedTuple

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from PIL import Image

from tuner.tracking.runs.exports import TrialPoint
from tuner.tracking.runs.figures import HistoryFigure, ImportanceFigure
from tuner.tracking.spool.spool_events import TrialSummary
from tuner.training.plan import Outcome

BLUE, ORANGE, GREEN, VERMILION, GREY = "#0072B2", "#E69F00", "#009E73", "#D55E00", "#767676"

DPI = 100
"""Dots per inch."""


class _Style(NamedTuple):
    marker: str
    edge: str
    face: str


_STATE_STYLES: dict[str, _Style] = {
    Outcome.COMPLETED: _Style("o", BLUE, BLUE),
    Outcome.PRUNED: _Style("s", ORANGE, "white"),
}
_FAILED = _Style("x", VERMILION, VERMILION)


def draw_history(content: HistoryFigure) -> bytes:
    """Draws the figure as PNG."""
    history = content.history
    figure = Figure(figsize=(7.5, 4.2), layout="constrained")
    axes = figure.subplots()
    _draw_best(axes, history)
    for state in _STATE_STYLES:
        _draw_trials(axes, history, state)
    _draw_unvalued(axes, content.trials)
    label_axes(axes, "trial", content.metric)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    if axes.get_legend_handles_labels()[0]:
        axes.legend(frameon=False)
    return as_png(figure)


def _draw_best(axes: Axes, history: Sequence[TrialPoint]) -> None:
    points = [(point.number, point.best) for point in history if point.best is not None]
    if points:
        numbers, values = zip(*points, strict=True)
        axes.step(numbers, values, where="post", color=GREEN, label="best so far")


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
    """Draws failed trials, which have no value, on the lower edge."""
    numbers = [trial.number for trial in trials if trial.state == Outcome.FAILED]
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


def draw_importance(content: ImportanceFigure) -> bytes:
    """Draws the figure as PNG."""
    ranked = sorted(content.importance.items(), key=lambda pair: pair[1])
    names, shares = zip(*ranked, strict=True)
    figure = Figure(figsize=(7, 1.4 + 0.38 * len(names)), layout="constrained")
    axes = figure.subplots()
    bars = axes.barh([literal(name) for name in names], shares, color=BLUE, height=0.65)
    axes.bar_label(bars, fmt="%.2f", padding=3)
    axes.set_xlim(0, max(1e-9, *shares) * 1.12)
    label_axes(axes, "importance (share)", "")
    axes.grid(visible=False, axis="y")
    return as_png(figure)


def label_axes(axes: Axes, x: str, y: str) -> None:
    """Labels the axes and draws the grid of all figures."""
    axes.set(xlabel=x, ylabel=y)
    axes.grid(visible=True, alpha=0.3)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)


def literal(text: str) -> str:
    """The text with `$` escaped, which would begin a formula in matplotlib."""
    return text.replace("$", r"\$")


def as_png(figure: Figure) -> bytes:
    """The figure as PNG, drawn once.

    `savefig` draws a figure with a layout engine twice, in case the first drawing changes the
    layout. These figures do not need that.
    """
    figure.set_dpi(DPI)
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return encoded(canvas)


def encoded(canvas: FigureCanvasAgg) -> bytes:
    """The drawn canvas as PNG, with the same bytes for the same picture."""
    buffer = io.BytesIO()
    drawn = Image.frombuffer("RGBA", canvas.get_width_height(), canvas.buffer_rgba())
    drawn.convert("RGB").save(buffer, format="png", compress_level=3)
    return buffer.getvalue()
