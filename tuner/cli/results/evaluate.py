"""`tuner evaluate`: scores trials on the test set, and records each access to it."""

import json
from statistics import fmean, stdev
from typing import TYPE_CHECKING, Annotated

import typer

from tuner.cli.results.evaluations import print_evaluation
from tuner.cli.terminal.options import AsJson, StudyName
from tuner.cli.terminal.terminal_tables import print_table, print_text, score
from tuner.errors import UsageError
from tuner.words import count

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from tuner.promotion.evaluation import TestEvaluation
    from tuner.search.ranking import PointSummary
    from tuner.training.plan import Evaluation

_COLUMNS = ("point", "trial", "accuracy", "precision", "recall", "F1", "loss")


def evaluate(
    study: StudyName,
    trial: Annotated[
        int | None,
        typer.Option(help="A completed trial; by default that of the best point."),
    ] = None,
    every: Annotated[
        bool, typer.Option("--all", help="Every completed trial whose model is kept.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Score trials on the test set; the study records each access."""
    from tuner.api import evaluate as evaluate_study

    if every and trial is not None:
        raise UsageError("--trial and --all exclude each other")
    found: dict[int, TestEvaluation] = {}

    def heard(number: int, evaluation: "TestEvaluation") -> None:
        found[number] = evaluation
        typer.echo(f"trial {number}: test accuracy {score(evaluation.accuracy)}", err=True)

    try:
        evaluate_study(study, trial=trial, every=every, heard=heard)
    finally:  # these accesses are recorded, so show their scores even if another trial failed
        _print(study, found, every=every, as_json=as_json)


def _print(study: str, found: "dict[int, TestEvaluation]", *, every: bool, as_json: bool) -> None:
    if not found:
        return
    if as_json:
        content = {number: each.model_dump(mode="json") for number, each in found.items()}
        typer.echo(json.dumps(content, indent=2))
        return
    if every:
        typer.echo(f"{count(len(found), 'trial')}: those whose models are kept", err=True)
        from tuner.api import load_study

        with load_study(study) as opened:
            rows = rows_by_point(found, opened.summary().points)
        print_table(_COLUMNS, rows, title="test set")
    else:
        (evaluation,) = found.values()
        print_evaluation(evaluation)
        print_text(f"test accuracy {score(evaluation.accuracy)}, loss {score(evaluation.loss)}")
    print_text(str(list(found.values())[-1].test_set_use))


def rows_by_point(
    found: "Mapping[int, Evaluation]", points: "Sequence[PointSummary]"
) -> list[tuple[str, ...]]:
    """Returns a row per trial, and below each point its mean and standard deviation.

    Mean and deviation are left out if some of a point's models are not kept: the kept ones are
    those in the middle, not a fair sample.
    """
    rows: list[tuple[str, ...]] = []
    for each in points:
        scores = {trial: _scores(found[trial]) for trial in each.trials if trial in found}
        rows += [_row(each, str(trial), scores[trial]) for trial in scores]
        if len(scores) == each.completed > 1:
            columns = list(zip(*scores.values(), strict=True))
            rows.append(_row(each, f"mean of {len(scores)}", map(fmean, columns)))
            rows.append(_row(each, "std", map(stdev, columns)))
    return rows


def _row(point: "PointSummary", trial: str, scores: "Iterable[float]") -> tuple[str, ...]:
    return str(point.point), trial, *map(score, scores)


def _scores(each: "Evaluation") -> tuple[float, ...]:
    macro = each.macro
    return each.accuracy, macro.precision, macro.recall, macro.f1, each.loss
