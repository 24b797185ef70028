"""Prints the tables of docs/paper.md from the studies that they were measured with.

    tuner run-study studies/paper-baseline.yaml
    tuner run-study studies/paper-baseline.yaml --name paper-tables \
        --set validation=0 --set objective=loss
    tuner run-study studies/paper-first-epoch.yaml
    python scripts/paper_tables.py

Table 6 is what `tuner evaluate paper-tables --all` prints, and `benchmarks.report` writes the
claims. Figures are means over seeds,
with the standard deviation of one run.
"""

from collections.abc import Sequence
from statistics import fmean, stdev

import tuner
from tuner.home import Home
from tuner.study.study import Study
from tuner.tracking.spool.spool import read_events
from tuner.training.plan import EpochEnded

EPOCHS = range(1, 11)


def main() -> None:
    """Prints the tables as Markdown."""
    with tuner.load_study("paper-tables") as fixed, tuner.load_study("paper-baseline") as split:
        print_epochs(fixed, split)
    with tuner.load_study("paper-first-epoch") as first:
        print_first_epochs(first)


def print_epochs(fixed: Study, split: Study) -> None:
    """Table 7: training figures on all rows, validation figures on the rows held out."""
    print("\n| epoch | train acc | train loss | val acc | val loss |\n|---|---|---|---|---|")
    for epoch in EPOCHS:
        cells = [
            spread(at_epoch(study, epoch, metric))
            for study, metric in (
                (fixed, "accuracy"),
                (fixed, "loss"),
                (split, "val_accuracy"),
                (split, "val_loss"),
            )
        ]
        print(f"| {epoch} | {' | '.join(cells)} |")


def print_first_epochs(study: Study) -> None:
    """The first epoch at every recipe, by its training accuracy."""
    rows = [
        (trial.params["learning_rate"], trial.params["batch_size"], *pair(study, trial.slot))
        for trial in study.summary().trials
    ]
    print("\n| learning rate | batch | train acc | val acc |\n|---|---|---|---|")
    for rate, batch, train, validation in sorted(rows, key=lambda row: row[2]):
        print(f"| {rate} | {batch} | {train:.4f} | {validation:.4f} |")


def pair(study: Study, slot: int) -> tuple[float, float]:
    """Training and validation accuracy of a slot's first epoch."""
    metrics = epochs(study, slot)[0]
    return metrics["accuracy"], metrics["val_accuracy"]


def at_epoch(study: Study, epoch: int, metric: str) -> list[float]:
    """The metric of every trial at an epoch, from the spools of this machine."""
    curves = [epochs(study, slot) for slot in range(study.spec.slots)]
    return [curve[epoch - 1][metric] for curve in curves]


def epochs(study: Study, slot: int) -> list[dict[str, float]]:
    """The metrics of each epoch of a slot's newest attempt."""
    attempts = Home.from_environment().study(study.name).glob(f"attempts/{slot}-*")
    told, _ = read_events(max(attempts, key=lambda folder: int(folder.name.split("-")[1])))
    return [event.report.metrics for event in told if isinstance(event, EpochEnded)]


def spread(values: Sequence[float]) -> str:
    """Mean and standard deviation to four decimals."""
    return f"{fmean(values):.4f} ± {stdev(values):.4f}"


if __name__ == "__main__":
    main()
