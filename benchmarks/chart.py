"""Draws docs/images/benchmarks.svg from the committed results; no figure is typed by hand.

    python -m benchmarks.chart [--device cpu] [--to docs/images/benchmarks.svg]

Left a whole study, right one epoch: bars are medians, whiskers reach from the fastest to the
slowest round.
"""

import argparse
from pathlib import Path

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from benchmarks.committed import Committed, read
from benchmarks.harness import RESULTS, console
from benchmarks.process import ROOT

_OURS, _OTHERS = "#0072b2", "#b4b9c0"
_INK, _FAINT = "#1f2328", "#59636e"
_STYLE = {"svg.hashsalt": "benchmarks", "font.size": 10, "text.color": _INK}


def main() -> None:
    """Draws the chart, or says which results are missing."""
    arguments = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    arguments.add_argument("--device", default="cpu", choices=["cpu", "gpu"])
    arguments.add_argument("--results", type=Path, default=RESULTS)
    arguments.add_argument("--to", type=Path, default=ROOT / "docs/images/benchmarks.svg")
    asked = arguments.parse_args()
    study, engine = (
        read(asked.results / f"{name}-{asked.device}.json") for name in ("study", "engine")
    )
    if study is None or engine is None:
        raise SystemExit(f"{asked.results}: the results of study and engine must be there")
    asked.to.parent.mkdir(parents=True, exist_ok=True)
    with mpl.rc_context(_STYLE):
        metadata = {"Date": None} if asked.to.suffix == ".svg" else None
        draw(study, engine).savefig(asked.to, metadata=metadata, dpi=150)
    console.print(f"wrote {asked.to}", highlight=False, soft_wrap=True)


def draw(study: Committed, engine: Committed) -> Figure:
    """Both panels, on white, which is legible on dark pages too."""
    figure = Figure(figsize=(12, 4.3), layout="constrained", facecolor="white")
    left, right = figure.subplots(1, 2)
    trials, epochs = study.settings["trials"], study.settings["epochs"]
    _bars(
        left, study, "total", f"A whole study, start to exit\n(trials: {trials}, epochs: {epochs})"
    )
    rows = engine.settings["train"]
    _bars(right, engine, "epoch", f"An epoch of {rows:,} images\n(at once: an equal share)")
    figure.supxlabel(_caption(study, engine), fontsize=8, color=_FAINT)
    return figure


def _bars(axes: Axes, result: Committed, measure: str, title: str) -> None:
    """Horizontal bars, the slowest on top, each with its median and its spread."""
    series = sorted(result.of(measure).values(), key=lambda one: one.median)
    medians = [one.median for one in series]
    reach = (
        [one.median - min(one.samples) for one in series],
        [max(one.samples) - one.median for one in series],
    )
    colours = [_OURS if one.subject.startswith("tuner") else _OTHERS for one in series]
    axes.barh([one.subject for one in series], medians, color=colours, height=0.66)
    axes.errorbar(
        medians, range(len(series)), xerr=reach, fmt="none", ecolor=_INK, elinewidth=1, capsize=3
    )
    widest = max(max(one.samples) for one in series)
    for place, one in enumerate(series):
        end = max(one.samples) + 0.02 * widest
        axes.text(end, place, f"{one.median:.3g} {one.unit}", va="center", fontsize=10)
    axes.set_xlim(0, 1.18 * widest)
    axes.set_title(title, fontsize=11, color=_INK)
    axes.xaxis.set_visible(False)
    axes.tick_params(length=0, colors=_INK)
    axes.spines[["top", "right", "bottom"]].set_visible(False)


def _caption(study: Committed, engine: Committed) -> str:
    rounds = sorted({study.content["rounds"], engine.content["rounds"]})
    return (
        f"Medians of {' and '.join(map(str, rounds))} interleaved rounds, whiskers from fastest "
        f"to slowest. {study.machine()}, {study.content['measured_at'][:10]}"
    )


if __name__ == "__main__":
    main()
