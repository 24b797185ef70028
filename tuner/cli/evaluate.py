"""`tuner evaluate`: opens the test set for trials, and says that it did."""

import json
from statistics import fmean, stdev
from typing import TYPE_CHECKING, Annotated

import typer

from tuner.cli.evaluations import print_evaluation
from tuner.cli.options import AsJson, StudyName
from tuner.cli.tables import print_table, score
from tuner.errors import UsageError

if TYPE_CHECKING:
    from tuner.training.plan import Evaluation


def evaluate(
    study: StudyName,
    trial: Annotated[
        int | None, typer.Option(help="A completed trial; the best one if left out.")
    ] = None,
    every: Annotated[
        bool, typer.Option("--all", help="Every completed trial whose model is kept.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Score trials on the test set; each look is counted in the study."""
    from tuner.api import evaluate as evaluate_study

    if every and trial is not None:
        raise UsageError("--trial and --all exclude each other")
    found = evaluate_study(study, trial=trial, every=every)
    if as_json:
        content = {number: each.model_dump(mode="json") for number, each in found.items()}
        typer.echo(json.dumps(content, indent=2))
    elif every:
        typer.echo(f"{len(found)} trials, those whose models are kept", err=True)
        _print_all(found)
    else:
        (evaluation,) = found.values()
        print_evaluation(evaluation)
        typer.echo(f"test accuracy {score(evaluation.accuracy)}, loss {score(evaluation.loss)}")


def _print_all(found: "dict[int, Evaluation]") -> None:
    """A row a trial, then mean and standard deviation."""
    columns = {
        "accuracy": [each.accuracy for each in found.values()],
        "precision": [each.macro.precision for each in found.values()],
        "recall": [each.macro.recall for each in found.values()],
        "F1": [each.macro.f1 for each in found.values()],
        "loss": [each.loss for each in found.values()],
    }
    rows = [
        (str(number), *(score(values[index]) for values in columns.values()))
        for index, number in enumerate(found)
    ]
    rows.append(("mean", *(score(fmean(values)) for values in columns.values())))
    if len(found) > 1:
        rows.append(("std", *(score(stdev(values)) for values in columns.values())))
    print_table(["trial", *columns], rows, title="test set")
