"""Results as text for people and programs: CSV, JSON and the classification report."""

import csv
import io
import json
from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence
from statistics import fmean
from typing import Any

from tuner.spec.search_space import Frozen
from tuner.tracking.events import TrialSummary
from tuner.training.plan import ClassScores, EpochReport, Evaluation


def as_json(value: object) -> str:
    """Readable JSON with a newline at its end."""
    return json.dumps(value, indent=2, ensure_ascii=False) + "\n"


def as_csv(header: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """Comma-separated rows under `header`; None is empty."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(rows)
    return text.getvalue()


def column(name: str, own: Collection[str]) -> str:
    """What a hyperparameter is called beside columns of our `own`: no value hides another."""
    return f"search_space.{name}" if name in own else name


def curves_csv(epochs: Sequence[EpochReport]) -> str:
    """One row an epoch: every metric, then the seconds of training and validation."""
    names = list(dict.fromkeys(name for report in epochs for name in report.metrics))
    rows = (
        [
            report.epoch,
            *(report.metrics.get(name) for name in names),
            report.train_s,
            report.validation_s,
        ]
        for report in epochs
    )
    return as_csv(["epoch", *names, "epoch_train_s", "epoch_validation_s"], rows)


def confusion_csv(evaluation: Evaluation) -> str:
    """Rows are true classes, columns are predicted ones."""
    labels = [scores.label for scores in evaluation.classes]
    rows = ([label, *counts] for label, counts in zip(labels, evaluation.confusion, strict=True))
    return as_csv(["true \\ predicted", *labels], rows)


def report_json(evaluation: Evaluation) -> str:
    """Accuracy, loss, the scores of every class, their macro means and the absent classes."""
    content = evaluation.model_dump(mode="json", exclude={"confusion"})
    return as_json({**content, "absent": evaluation.absent})


def report_text(evaluation: Evaluation) -> str:
    """The classification report in the layout scikit-learn made familiar."""
    width = max(len("macro avg"), *(len(scores.label) for scores in evaluation.classes))
    head = f"{'':>{width}}  precision    recall  f1-score   support"
    lines = [_scores_line(scores.label, scores, width) for scores in evaluation.classes]
    total = evaluation.macro.support
    accuracy = f"{'accuracy':>{width}}  {'':9} {'':9} {evaluation.accuracy:9.4f} {total:9d}"
    macro = _scores_line("macro avg", evaluation.macro, width)
    absent = [absent_note(evaluation.absent), ""] if evaluation.absent else []
    return "\n".join([head, "", *lines, "", accuracy, macro, "", *absent])


def absent_note(classes: Sequence[str]) -> str:
    """What macro averages leave out, in a sentence."""
    return (
        "macro averages leave out the classes that neither occur nor are predicted: "
        f"{', '.join(classes)}"
    )


def _scores_line(label: str, scores: ClassScores, width: int) -> str:
    numbers = f"{scores.precision:9.4f} {scores.recall:9.4f} {scores.f1:9.4f}"
    return f"{label:>{width}}  {numbers} {scores.support:9d}"


def summary_csv(trials: Sequence[TrialSummary], seeds: int) -> str:
    """One row a trial, one column a parameter; trials of one point differ in their seed alone."""
    names = sorted({name for trial in trials for name in trial.params})
    head, tail = ["number", "slot", "point", "state"], ["value", "epochs", "duration_s", "run_id"]
    columns = [column(name, (*head, *tail)) for name in names]
    rows = (
        [trial.number, trial.slot, trial.slot // seeds, trial.state]
        + [trial.params.get(name) for name in names]
        + [trial.value, trial.epochs, trial.duration_s, trial.run_id]
        for trial in trials
    )
    return as_csv([*head, *columns, *tail], rows)


class TrialPoint(Frozen):
    """A trial with a value, and the best mean of the points that were complete by then."""

    number: int
    state: str
    value: float
    best: float | None


def optimization_history(
    trials: Sequence[TrialSummary], direction: str, seeds: int
) -> list[TrialPoint]:
    """Every trial with a value, in order of number.

    A point counts once each of its `seeds` trainings has completed, with their mean.
    """
    pick = max if direction == "maximize" else min
    values: dict[int, list[float]] = defaultdict(list)
    best: float | None = None
    history = []
    for trial in sorted(trials, key=lambda trial: trial.number):
        if trial.value is None:
            continue
        own = values[trial.slot // seeds]
        if trial.state == "completed":
            own.append(trial.value)
            if len(own) == seeds:
                best = fmean(own) if best is None else pick(best, fmean(own))
        point = TrialPoint(number=trial.number, state=trial.state, value=trial.value, best=best)
        history.append(point)
    return history
