"""Results as text for people and programs: CSV, JSON and the classification report."""

import csv
import io
import json
from collections.abc import Iterable, Sequence
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


def summary_csv(trials: Sequence[TrialSummary]) -> str:
    """One row a trial, one column a parameter."""
    names = sorted({name for trial in trials for name in trial.params})
    header = ["number", "slot", "state", *names, "value", "epochs", "duration_s", "run_id"]
    return as_csv(header, (_summary_row(trial, names) for trial in trials))


def _summary_row(trial: TrialSummary, names: Sequence[str]) -> list[object]:
    params = [trial.params.get(name) for name in names]
    tail = [trial.value, trial.epochs, trial.duration_s, trial.run_id]
    return [trial.number, trial.slot, trial.state, *params, *tail]


class TrialPoint(Frozen):
    """A trial with a value, and the best value of the completed trials up to it."""

    number: int
    state: str
    value: float
    best: float | None


def optimization_history(trials: Sequence[TrialSummary], direction: str) -> list[TrialPoint]:
    """Every trial with a value, in order of number."""
    pick = max if direction == "maximize" else min
    best: float | None = None
    history = []
    for trial in sorted(trials, key=lambda trial: trial.number):
        if trial.value is None:
            continue
        if trial.state == "completed":
            best = trial.value if best is None else pick(best, trial.value)
        point = TrialPoint(number=trial.number, state=trial.state, value=trial.value, best=best)
        history.append(point)
    return history
