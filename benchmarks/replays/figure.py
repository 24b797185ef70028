"""The figure: best so far against seconds of training, with bands."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from benchmarks.replays.clock import ReplayedStudy
from benchmarks.replays.scores import Array

_COLOURS = ("#8a8a8a", "#56b4e9", "#e69f00", "#0072b2")  # Okabe and Ito: safe for the colour-blind
_POINTS = 150
_ENOUGH = 0.95
"""A curve begins where so many of the repeats have a completed trial."""


def draw(studies: Mapping[str, Sequence[ReplayedStudy]], target: float, path: Path) -> None:
    """Medians over repeats with their 95% interval: what the study saw, and what is true."""
    until = max(np.median([study.seconds for study in each]) for each in studies.values())
    times = np.linspace(0, until, _POINTS)
    drawing = Figure(figsize=(10, 4.6), layout="constrained")
    seen, true = drawing.subplots(1, 2, sharex=True)
    for colour, (name, each) in zip(_COLOURS, studies.items(), strict=False):
        _curve(seen, times, _best_so_far(each, times, "value"), name, colour)
        _curve(true, times, _best_so_far(each, times, "expected"), name, colour)
    seen.axhline(target, color="black", linewidth=0.8, linestyle=":", label="target")
    seen.set_title("best validation accuracy so far", fontsize=10)
    true.set_title("the same trial's expected accuracy", fontsize=10)
    for axes in (seen, true):
        axes.set_xlabel("seconds of training, two trainers")
        axes.grid(color="#dddddd", linewidth=0.6)
        axes.spines[["top", "right"]].set_visible(False)
    handles, labels = seen.get_legend_handles_labels()
    drawing.legend(handles, labels, loc="outside lower center", ncols=3, fontsize=9, frameon=False)
    with mpl.rc_context({"svg.hashsalt": "search", "svg.fonttype": "none"}):
        metadata = {"Date": None} if path.suffix == ".svg" else None
        drawing.savefig(path, metadata=metadata)


def _curve(axes: Axes, times: Array, runs: Array, name: str, colour: str) -> None:
    shown = np.isfinite(runs).mean(axis=0) >= _ENOUGH
    half = 0.98 / np.sqrt(len(runs))  # the median's interval by order statistics
    low, middle, high = np.nanquantile(runs[:, shown], [0.5 - half, 0.5, 0.5 + half], axis=0)
    axes.fill_between(times[shown], low, high, color=colour, alpha=0.15, linewidth=0)
    axes.plot(times[shown], middle, color=colour, linewidth=1.6, label=name)


def _best_so_far(studies: Sequence[ReplayedStudy], times: Array, measure: str) -> Array:
    """Shape (repeats, times); NaN before the first completed trial."""
    rows = []
    for study in studies:
        leaders = study.leaders()
        ends = [leader.ended_s for leader in leaders]
        values = np.array([np.nan, *(getattr(leader, measure) for leader in leaders)])
        rows.append(values[np.searchsorted(ends, times, side="right")])
    return np.array(rows)
