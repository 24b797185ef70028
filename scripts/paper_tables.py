"""Prints the tables of docs/paper.md from the studies that they were measured with.

    tuner run-study studies/paper-baseline.yaml
    tuner run-study studies/paper-baseline.yaml --name paper-tables \
        --set validation=0 --set objective=loss
    tuner evaluate paper-tables --all
    tuner run-study studies/paper-claims.yaml
    python scripts/paper_tables.py

Figures are means over seeds, with the standard deviation of one run.
"""

from collections.abc import Sequence
from statistics import fmean, stdev

import tuner
from tuner.home import Home
from tuner.study.study import Study
from tuner.tracking.events import EpochEnded
from tuner.tracking.spool import read_events

EPOCHS = range(1, 11)


def main() -> None:
    """Prints the tables as Markdown."""
    with tuner.load_study("paper-tables") as fixed, tuner.load_study("paper-baseline") as split:
        print_test_scores(fixed)
        print_epochs(fixed, split)
    with tuner.load_study("paper-claims") as claims:
        print_points(claims)


def print_test_scores(study: Study) -> None:
    """Table 6: the test set, opened once a seed."""
    looks = {look.trial: look.evidence for look in study.looks.all() if look.evidence}
    print(f"\nTest set, {len(looks)} seeds\n")
    print("| metric | mean ± sd | lowest | highest |\n|---|---|---|---|")
    for name in ("test_accuracy", "test_precision", "test_recall", "test_f1"):
        values = [evidence[name] for evidence in looks.values()]
        print(f"| {name} | {spread(values)} | {min(values):.4f} | {max(values):.4f} |")


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


def print_points(study: Study) -> None:
    """The claims: each point over its seeds, and its paired difference from the first."""
    points: dict[str, dict[int, float]] = {}
    for trial in study.summary().trials:
        name = ", ".join(f"{key} {value}" for key, value in sorted(trial.params.items()))
        points.setdefault(name, {})[trial.slot % study.spec.seeds] = trial.value or 0.0
    (first, *_) = points.values()
    print("\n| point | seeds | val acc | paired difference |\n|---|---|---|---|")
    for name, values in points.items():
        differences = [value - first[seed] for seed, value in values.items()]
        print(
            f"| {name} | {len(values)} | {spread(list(values.values()))} | {spread(differences)} |"
        )


def at_epoch(study: Study, epoch: int, metric: str) -> list[float]:
    """The metric of every trial at an epoch, from the spools of this machine."""
    home = Home.from_environment()
    values = []
    for slot in range(study.spec.slots):
        (*_, newest) = sorted(home.study(study.name).glob(f"attempts/{slot}-*"))
        told, _ = read_events(newest)
        reports = [event.report for event in told if isinstance(event, EpochEnded)]
        values += [each.metrics[metric] for each in reports if each.epoch == epoch]
    return values


def spread(values: Sequence[float]) -> str:
    """Mean and standard deviation to four decimals."""
    return f"{fmean(values):.4f} ± {stdev(values):.4f}"


if __name__ == "__main__":
    main()
