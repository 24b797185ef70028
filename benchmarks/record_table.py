"""Writes the committed table of learning curves from the finished study that measured them.

    tuner run-study studies/search-table.yaml
    python -m benchmarks.record_table

The study trains 8 learning rates, 3 dropout rates and 3 batch sizes with two seeds each, 10
epochs, without pruning; `tuner` keeps it in `TUNER_HOME`, so give the same one here. The table,
`benchmarks/data/search-table.csv`, has one line an epoch.
"""

import argparse
import sys
from pathlib import Path

import tuner
from benchmarks.harness import console
from benchmarks.replays.curves import Row, write_table
from tuner.errors import RefusedError
from tuner.home import Home
from tuner.study.study import Study
from tuner.study.summary import StudySummary
from tuner.tracking.spool.spool import read_events
from tuner.tracking.spool.spool_events import AttemptEnded, TrialSummary
from tuner.training.plan import TrialResult

TABLE = Path(__file__).parent / "data" / "search-table.csv"


def main() -> None:
    """Writes the table, or says what is missing."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--study", default="search-table")
    parser.add_argument("--table", type=Path, default=TABLE, help="where the table goes")
    arguments = parser.parse_args()
    home = Home.from_environment()
    try:
        with tuner.load_study(arguments.study, home) as study:
            rows = recorded(study, home)
    except tuner.TunerError as error:
        sys.exit(f"error: {error}")
    write_table(arguments.table, rows)
    console.print(f"wrote {arguments.table}: {len(rows)} epochs", highlight=False, soft_wrap=True)


def recorded(study: Study, home: Home) -> list[Row]:
    """Every epoch of every trial, point by point.

    Raises:
        RefusedError: a trial has not been trained to its end.
    """
    summary = study.summary()
    check_finished(summary)
    rows = [
        row
        for trial in summary.trials
        for row in trial_rows(trial, trial.slot % study.spec.seeds, result_of(home, study, trial))
    ]
    return sorted(rows, key=lambda row: tuple(row.model_dump().values()))


def check_finished(summary: StudySummary) -> None:
    """Refuses a study that is not trained to the end of every trial."""
    completed = summary.counts["completed"]
    if completed == summary.slots:
        return
    others = ", ".join(f"{n} {state}" for state, n in summary.counts.items() if n)
    raise RefusedError(
        f"study {summary.study!r}: must have completed all of its {summary.slots} trials, got "
        f"{others}; go on with: tuner run-study studies/{summary.study}.yaml"
    )


def result_of(home: Home, study: Study, trial: TrialSummary) -> TrialResult:
    """What the trial's last attempt found, from this machine's spools.

    Raises:
        RefusedError: another machine trained it.
    """
    for attempt in sorted(
        home.current_study(study.name).glob(f"attempts/{trial.slot}-*"), reverse=True
    ):
        told, _ = read_events(attempt)
        for event in told:
            if isinstance(event, AttemptEnded) and event.outcome == "completed" and event.result:
                return event.result
    raise RefusedError(
        f"study {study.name!r}: trial {trial.number} has no spool in {home.root}; set TUNER_HOME "
        "to the folder that it was trained with"
    )


def trial_rows(trial: TrialSummary, replicate: int, result: TrialResult) -> list[Row]:
    """One row an epoch. Seconds are rounded to hundredths, losses to 1e-4."""
    timings = result.timings
    beyond_s = timings.total_s - timings.train_s - timings.validation_s
    point = {name: trial.params[name] for name in ("learning_rate", "dropout_rate", "batch_size")}
    return [
        Row.model_validate(
            {
                **point,
                "replicate": replicate,
                "epoch": report.epoch,
                "val_accuracy": round(report.metrics["val_accuracy"], 4),
                "val_loss": round(report.metrics["val_loss"], 4),
                "train_s": round(report.train_s, 2),
                "validation_s": round(report.validation_s, 2),
                "beyond_s": round(beyond_s, 2),
            }
        )
        for report in result.epochs
    ]


if __name__ == "__main__":
    main()
