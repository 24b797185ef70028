"""`tuner promote`: tests the best point's model and registers it as champion."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from tuner.cli.results.comparisons import print_comparison, refusal
from tuner.cli.results.evaluations import print_evaluation
from tuner.cli.terminal.options import (
    Address,
    AsJson,
    NumCpus,
    NumGpus,
    On,
    Workers,
    cluster_of,
    workers_of,
)
from tuner.cli.terminal.shell import next_command, same_command
from tuner.cli.terminal.study_run import run_file
from tuner.cli.terminal.terminal_tables import number, print_table, print_text, score
from tuner.errors import RefusedError, UsageError
from tuner.words import command

if TYPE_CHECKING:
    from tuner.promotion.judging.evidence import Evidence
    from tuner.promotion.report import PromotionReport


def promote(
    which: Annotated[
        str,
        typer.Argument(
            metavar="best|STUDY", help="best, or the study that --trial or --point is of."
        ),
    ],
    study: Annotated[
        str | None,
        typer.Argument(metavar="[STUDY]", help="The newest with a completed trial by default."),
    ] = None,
    trial: Annotated[
        int | None, typer.Option(help="Promote this trial as it was trained; not confirmed.")
    ] = None,
    point: Annotated[
        int | None, typer.Option(help="Promote this point, trained on all rows; not confirmed.")
    ] = None,
    unconfirmed: Annotated[
        bool, typer.Option("--unconfirmed", help="Skip the confirmation; the record says so.")
    ] = False,
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
    alias: Annotated[
        Literal["champion", "challenger"],
        typer.Option(help="challenger registers it beside the champion."),
    ] = "champion",
    file: Annotated[
        Path | None,
        typer.Option(help="Use the model name and gates of this study file, as it is now."),
    ] = None,
    workers: Workers = None,
    on: On = None,
    address: Address = None,
    num_cpus: NumCpus = 1.0,
    num_gpus: NumGpus = None,
    as_json: AsJson = False,
) -> None:
    """Confirm the best point, train it on all rows, test it, and register it as champion."""
    from tuner.api import promote as promote_study

    cluster = cluster_of(on, address, num_cpus, num_gpus)
    try:
        report = promote_study(
            _study(which, study, is_stated=trial is not None or point is not None),
            trial=trial,
            point=point,
            unconfirmed=unconfirmed,
            dry_run=dry_run,
            replace=replace,
            challenger=alias == "challenger",
            file=file,
            workers=workers_of(workers),
            train=lambda begun: run_file(begun, cluster),
            say=lambda text: typer.echo(text, err=True),
        )
    except KeyboardInterrupt:  # while nothing trains
        typer.echo(f"stopped; finish it with: {same_command()}", err=True)
        raise
    if as_json:
        typer.echo(report.model_dump_json(indent=2))
    else:
        _print(report)
    if not report.passed:
        why = "; ".join(dict.fromkeys(_failures(report)))
        raise RefusedError(f"not promoted, nothing was registered: {why}")


def _study(which: str, study: str | None, *, is_stated: bool) -> str | None:
    """The study that the arguments name; None is the newest.

    Raises:
        UsageError: neither `best` nor a trial or point of a study is given, or both are.
    """
    if which == "best" and not is_stated:
        return study
    if which != "best" and study is None and is_stated:
        return which
    given = " ".join(filter(None, ["promote", which, study]))
    if study is None:
        raise UsageError(
            f"{given!r} states no trial: give `{command('promote', 'best', which)}` for its best "
            "point, or --trial or --point"
        )
    raise UsageError(
        "give `promote best [STUDY]`, or `promote STUDY` with --trial or --point, got "
        f"{given}{' with --trial or --point' * is_stated}"
    )


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
    for line in report.grounds.lines if report.grounds else ():
        print_text(line)
    if report.evidence is None:
        print_text("the test set was not opened")
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
        print_text(f"{report.model} version {report.version} {since} @{report.alias}")
        if not report.challenger:
            advised = next_command("predict", "IMAGE", options=["--model", report.model])
            typer.echo(f"next: {advised}", err=True)
    elif report.passed:
        gates = "every gate passed" if report.gates else "the study states no gates"
        print_text(f"dry run: {gates}, nothing was registered")


def _print_evidence(report: "PromotionReport", evidence: "Evidence") -> None:
    print_evaluation(evidence.test)
    interval = evidence.interval
    print_text(
        f"test accuracy {score(evidence.test.accuracy)} "
        f"(95% interval {score(interval.low)} to {score(interval.high)})"
    )
    print_text(str(report.test_set_use))
    if report.champion is not None:
        print_comparison(report.champion)
