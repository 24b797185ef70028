"""Writes results as CSV and JSON, and in words for people."""

import csv
import io
import json
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from statistics import fmean, stdev
from typing import Any

from tuner.spec.search_space import Scalar
from tuner.spec.section import Frozen
from tuner.tracking.spool.spool_events import ClaimSummary, MissedImage, TrialSummary
from tuner.training.plan import ConfidentError, Evaluation, Outcome
from tuner.words import count, plain


def as_json(value: object) -> str:
    """Indented JSON with a final newline. NaN and infinity become null."""
    finite = json.loads(json.dumps(value), parse_constant=lambda _: None)
    return json.dumps(finite, indent=2, ensure_ascii=False) + "\n"


def as_csv(header: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """Comma-separated rows below `header`. None becomes an empty cell."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(rows)
    return text.getvalue()


def column(name: str, own: Collection[str]) -> str:
    """The column of a hyperparameter, which differs from every column in `own`."""
    return f"search_space.{name}" if name in own else name


def evaluation_json(evaluation: Evaluation) -> dict[str, Any]:
    """Accuracy, loss, confusion matrix, the scores of each class, their means, absent classes."""
    return {**evaluation.model_dump(mode="json"), "absent": evaluation.absent}


def absent_note(classes: Sequence[str]) -> str:
    """A sentence that names the classes which macro averages leave out."""
    return (
        "macro averages leave out the classes that neither occur nor are predicted: "
        f"{', '.join(classes)}"
    )


def summary_csv(trials: Sequence[TrialSummary], seeds: int) -> str:
    """One row for each trial, one column for each parameter. A point has `seeds` trials."""
    names = sorted({name for trial in trials for name in trial.params})
    head, tail = ["number", "slot", "point", "state"], ["value", "epochs", "duration_s", "run_id"]
    columns = [column(name, (*head, *tail)) for name in names]
    rows = (
        [trial.number, trial.slot, _point(trial, seeds), trial.state]
        + [trial.params.get(name) for name in names]
        + [trial.value, trial.epochs, trial.duration_s, trial.run_id]
        for trial in trials
    )
    return as_csv([*head, *columns, *tail], rows)


class PointFigures(Frozen):
    """The figures of one point over its completed trainings."""

    point: int
    params: dict[str, Scalar]
    mean: float
    std: float | None
    """The sample standard deviation (n - 1); None for a single training."""
    n: int
    trials: tuple[int, ...]


def point_figures(
    trials: Sequence[TrialSummary], direction: str, seeds: int
) -> tuple[PointFigures, ...]:
    """The points with a completed training, in the order of `tuner.search.ranking.rank`."""
    points: dict[int, list[TrialSummary]] = defaultdict(list)
    for trial in trials:
        if trial.state == Outcome.COMPLETED and trial.value is not None:
            points[_point(trial, seeds)].append(trial)
    sign = -1 if direction == "maximize" else 1
    found = [_figures(point, own) for point, own in points.items()]
    return tuple(sorted(found, key=lambda each: (-each.n, sign * each.mean, min(each.trials))))


def _figures(point: int, trials: Sequence[TrialSummary]) -> PointFigures:
    values = [trial.value for trial in trials if trial.value is not None]
    return PointFigures(
        point=point,
        params=trials[0].params,
        mean=fmean(values),
        std=stdev(values) if len(values) > 1 else None,
        n=len(values),
        trials=tuple(trial.number for trial in trials),
    )


def points_csv(trials: Sequence[TrialSummary], direction: str, seeds: int) -> str:
    """One row for each point: mean, standard deviation (n - 1) and number of completed trainings.

    The points with the most trainings come first, then the better mean.
    """
    found = point_figures(trials, direction, seeds)
    names = sorted({name for each in found for name in each.params})
    head, tail = ["point"], ["mean", "std", "n", "trials"]
    rows = (
        [
            each.point,
            *(each.params.get(name) for name in names),
            *(each.mean, each.std, each.n),
            " ".join(map(str, each.trials)),
        ]
        for each in found
    )
    columns = [column(name, (*head, *tail)) for name in names]
    return as_csv([*head, *columns, *tail], rows)


def missed_csv(images: Sequence[MissedImage]) -> str:
    """One row for each image that every good training of a confirmation missed."""
    header = list(MissedImage.model_fields)
    return as_csv(header, ([getattr(image, name) for name in header] for image in images))


def confident_errors_csv(errors: Sequence[ConfidentError], classes: Sequence[str]) -> str:
    """One row for each validation image that a training put into a wrong class with confidence."""
    rows = (
        [error.row, classes[error.label], classes[error.predicted], error.probability]
        for error in errors
    )
    return as_csv(ConfidentError._fields, rows)


def claims_csv(claims: Sequence[ClaimSummary]) -> str:
    """One row for each claim, with a column for each field of `ClaimSummary`."""
    rows = [claim.model_dump(mode="json") for claim in claims]
    cells = [
        [as_point(cell) if isinstance(cell, dict) else cell for cell in row.values()]
        for row in rows
    ]
    return as_csv(list(ClaimSummary.model_fields), cells)


def as_point(params: Mapping[str, Scalar]) -> str:
    """Parameters as `name=value`, separated by spaces."""
    return " ".join(f"{name}={value}" for name, value in params.items())


def _point(trial: TrialSummary, seeds: int) -> int:
    return trial.slot // seeds if trial.point is None else trial.point


class TrialPoint(Frozen):
    """A trial's value, and the best mean of the points that were complete by then."""

    number: int
    state: str
    value: float
    best: float | None


def optimization_history(
    trials: Sequence[TrialSummary], direction: str, seeds: int
) -> list[TrialPoint]:
    """Every trial with a value, by number.

    A point counts with the mean of its `seeds` trials, once all have completed.
    """
    pick = max if direction == "maximize" else min
    values: dict[int, list[float]] = defaultdict(list)
    best: float | None = None
    history = []
    for trial in sorted(trials, key=lambda trial: trial.number):
        if trial.value is None:
            continue
        own = values[_point(trial, seeds)]
        if trial.state == Outcome.COMPLETED:
            own.append(trial.value)
            if len(own) == seeds:
                best = fmean(own) if best is None else pick(best, fmean(own))
        point = TrialPoint(number=trial.number, state=trial.state, value=trial.value, best=best)
        history.append(point)
    return history


def counts(names: Iterable[str]) -> str:
    """Counts equal names, such as `3 confirmed, 1 undecided`, in the order of the names."""
    return ", ".join(f"{number} {name}" for name, number in sorted(Counter(names).items()))


def search_section(
    study: Mapping[str, str], trials: Sequence[TrialSummary], metric: str, best: PointFigures | None
) -> str:
    """What a study asked, its best point by the mean over its seeds, and its trials by state.

    Args:
        study: the params of the study's run.
        trials: its trials.
        metric: its objective.
        best: its best point; None if no trial was completed.
    """
    questions = [_question(study, trials, metric)] if {"model", "dataset"} <= study.keys() else []
    best_one = [] if best is None else [f"**Best in the search:** {_best(best, metric)}"]
    told = f"{count(len(trials), 'trial')}: {counts(trial.state for trial in trials)}"
    return "\n\n".join([*questions, *best_one, f"{told} (`summary.csv`, by point `points.csv`)"])


def verdict_section(verdict: Sequence[str], claims: Sequence[ClaimSummary]) -> str:
    """What a confirmation has found: the answer, what else is to be said, the claims by verdict."""
    first, *others = verdict
    told = [f"**Answer:** {plain(first)}", "\n".join(f"- {plain(line)}" for line in others)]
    if claims:
        told.append(f"Claims: {counts(claim.verdict for claim in claims)} (`claims.csv`)")
    return "\n\n".join(filter(None, told))


def refit_section(study: str) -> str:
    """What a refit is."""
    return (
        f"The chosen point of study {plain(study)}, trained again on all training images, those "
        "for validation too. So its values are of images that it was trained on."
    )


def _question(study: Mapping[str, str], trials: Sequence[TrialSummary], metric: str) -> str:
    model, data = _code(study["model"]), _code(study["dataset"])
    points = {as_point(trial.params) for trial in trials}
    if len(points) < 2:
        return f"**Question:** which {_code(metric)} does {model} reach on {data}?"
    return (
        f"**Question:** with which of {len(points)} configurations has {model} the best "
        f"{_code(metric)} on {data}?"
    )


def _best(best: PointFigures, metric: str) -> str:
    params = _code(as_point(best.params)) if best.params else "no parameters"
    spread = f"standard deviation {best.std:.4f}, " if best.std is not None else ""
    figures = f"mean {_code(metric)} {best.mean:.4f} ({spread}{count(best.n, 'training')})"
    return f"point {best.point}, {params}: {figures}"


def _code(text: str) -> str:
    return f"`{' '.join(text.split()).replace('`', chr(39))}`"
