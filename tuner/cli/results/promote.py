"""`tuner promote`: tests the best trial and registers its model as champion."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from tuner.cli.results.comparisons import print_comparison, refusal
from tuner.cli.results.evaluations import print_evaluation
from tuner.cli.terminal.options import AsJson
from tuner.cli.terminal.shell import program
from tuner.cli.terminal.terminal_tables import number, print_table, score
from tuner.errors import RefusedError

if TYPE_CHECKING:
    from tuner.promotion.judging.evidence import Evidence
    from tuner.promotion.report import PromotionReport


def promote(
    which: Annotated[
        Literal["best"], typer.Argument(metavar="best", help="The best completed trial.")
    ],
    study: Annotated[
        str | None,
        typer.Argument(metavar="STUDY", help="The newest with a completed trial by default."),
    ] = None,
    dry_run: Annotated[
        bool,
        typer.Option(
            "--dry-run",
            help="Open the test set (recorded as an access), check the gates, register nothing.",
        ),
    ] = False,
    replace: Annotated[
        bool,
        typer.Option(
            "--replace",
            help="Waive the gates against the champion, also where it cannot be compared.",
        ),
    ] = False,
    file: Annotated[
        Path | None,
        typer.Option(help="Use the model name and gates of this study file, as it is now."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Check the model, open the test set, and register the best trial's model as champion."""
    from tuner.api import promote as promote_study

    assert which == "best"
    report = promote_study(
        study,
        dry_run=dry_run,
        replace=replace,
        file=file,
        say=lambda text: typer.echo(text, err=True),
    )
    if as_json:
        typer.echo(report.model_dump_json(indent=2))
    else:
        _print(report)
    if not report.passed:
        why = "; ".join(dict.fromkeys(_failures(report)))
        raise RefusedError(f"not promoted, nothing was registered: {why}")


def _failures(report: "PromotionReport") -> Iterator[str]:
    for gate in report.refusing:
        if report.champion is not None and gate.against_champion:
            yield refusal(gate, report.champion)
        else:
            yield (
                f"{gate.name} is {gate.value:.4g}, the limit is {gate.limit:.4g}, "
                f"missed by {gate.shortfall:.4g}"
            )


def _print(report: "PromotionReport") -> None:
    if report.evidence is None:
        typer.echo("the test set was not opened")
    else:
        _print_evidence(report, report.evidence)
    refusing = {gate.name for gate in report.refusing}
    rows = [
        (
            gate.name,
            number(gate.value),
            number(gate.limit),
            "passed" if gate.passed else "FAILED" if gate.name in refusing else "waived",
        )
        for gate in report.gates
    ]
    if rows:
        print_table(["gate", "value", "limit", ""], rows)
    if report.promoted:
        since = "is still" if report.reigning else "is now"
        typer.echo(f"{report.model} version {report.version} {since} @{report.alias}")
        typer.echo(f"next: {program()} predict IMAGE --model {report.model}", err=True)
    elif report.passed:
        gates = "every gate passed" if report.gates else "the study states no gates"
        typer.echo(f"dry run: {gates}, nothing was registered")


def _print_evidence(report: "PromotionReport", evidence: "Evidence") -> None:
    print_evaluation(evidence.test)
    interval = evidence.interval
    typer.echo(
        f"test accuracy {score(evidence.test.accuracy)} "
        f"(95% interval {score(interval.low)} to {score(interval.high)})"
    )
    if report.champion is not None:
        print_comparison(report.champion)
