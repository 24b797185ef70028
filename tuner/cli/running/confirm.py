"""`tuner confirm`: races a study's best points against its baseline, with fresh seeds."""

from functools import partial
from typing import TYPE_CHECKING, Annotated

import typer

from tuner.cli.results.show import check_some_completed, print_confirmation
from tuner.cli.terminal.options import (
    Address,
    AsJson,
    NumCpus,
    NumGpus,
    On,
    StudyName,
    Workers,
    cluster_of,
    workers_of,
)
from tuner.cli.terminal.shell import next_command
from tuner.cli.terminal.study_run import check_finished, run_file

if TYPE_CHECKING:
    from tuner.driver.confirmation import Confirmed


def confirm(
    study: StudyName,
    finalists: Annotated[
        int | None, typer.Option(help="How many of the best points race against the baseline.")
    ] = None,
    max_seeds: Annotated[int | None, typer.Option(help="The most trainings of a point.")] = None,
    margin: Annotated[float | None, typer.Option(help="A difference that does not matter.")] = None,
    level: Annotated[
        float | None, typer.Option(help="The chance to take equal points for different ones.")
    ] = None,
    workers: Workers = None,
    on: On = None,
    address: Address = None,
    num_cpus: NumCpus = 1.0,
    num_gpus: NumGpus = None,
    as_json: AsJson = False,
) -> None:
    """Race the best points of a study against its baseline, with fresh seeds, or resume that.

    Decides the claims of the study file too.
    """
    from tuner.driver.confirmation import run_confirmation
    from tuner.study.study import load_study

    stated = {"finalists": finalists, "max_seeds": max_seeds, "margin": margin, "level": level}
    changes = {name: value for name, value in stated.items() if value is not None}
    run = partial(run_file, cluster=cluster_of(on, address, num_cpus, num_gpus))
    with load_study(study) as opened:
        raced = run_confirmation(
            opened, changes, run, partial(typer.echo, err=True), workers_of(workers)
        )
    print_confirmed(raced, as_json=as_json)
    typer.echo(f"next: {next_command('promote', 'best', study)}", err=True)


def print_confirmed(raced: "Confirmed", *, as_json: bool = False) -> None:
    """Prints what a confirmation has found, as JSON on request.

    Raises:
        RefusedError: every training failed.
        Exit: it is not finished.
    """
    if as_json:
        typer.echo(raced.report.model_dump_json(indent=2))
    else:
        print_confirmation(raced.report)
    check_some_completed(raced.summary)
    check_finished(raced.summary)
