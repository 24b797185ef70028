"""`tuner promote`: tests the best trial and makes it the champion."""

from typing import TYPE_CHECKING, Annotated, Literal

import typer

from tuner.cli.evaluations import print_evaluation
from tuner.cli.options import AsJson
from tuner.cli.tables import number, print_table, score
from tuner.cli.typed import program
from tuner.errors import RefusedError

if TYPE_CHECKING:
    from tuner.promotion.promote import PromotionReport


def promote(
    which: Annotated[
        Literal["best"], typer.Argument(metavar="best", help="The best completed trial.")
    ],
    study: Annotated[
        str | None,
        typer.Argument(metavar="STUDY", help="The newest with a completed trial if left out."),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Check the gates, register nothing.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Open the test set, check the gates, and register the best trial's model as champion."""
    from tuner.api import promote as promote_study

    assert which == "best"
    report = promote_study(study, dry_run=dry_run, say=lambda text: typer.echo(text, err=True))
    if as_json:
        typer.echo(report.model_dump_json(indent=2))
    else:
        _print(report)
    if not report.passed:
        failed = "; ".join(
            f"{gate.name} is {gate.value:.4g}, the limit is {gate.limit:.4g}, "
            f"short by {gate.shortfall:.4g}"
            for gate in report.gates
            if not gate.passed
        )
        raise RefusedError(f"not promoted, nothing was changed: {failed}")


def _print(report: "PromotionReport") -> None:
    print_evaluation(report.evidence.test)
    interval = report.evidence.interval
    typer.echo(
        f"test accuracy {score(report.evidence.test.accuracy)} "
        f"(95% interval {score(interval.low)} to {score(interval.high)})"
    )
    rows = [
        (gate.name, number(gate.value), number(gate.limit), "passed" if gate.passed else "FAILED")
        for gate in report.gates
    ]
    if rows:
        print_table(["gate", "value", "limit", ""], rows)
    if report.promoted:
        typer.echo(f"{report.model} version {report.version} is now @{report.alias}")
        typer.echo(f"next: {program()} predict IMAGE --model {report.model}", err=True)
    elif report.passed:
        typer.echo("dry run: every gate passed, nothing was changed")
