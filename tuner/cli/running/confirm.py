"""`tuner confirm`: races a study's best points against its baseline, with fresh seeds."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from tuner.cli.results.show import check_some_completed, print_confirmation
from tuner.cli.running.run_study import run_file
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
from tuner.cli.terminal.shell import next_command, same_command
from tuner.errors import ExitCode

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tuner.spec.study_spec import AutoOrCount
    from tuner.workers.cluster import Cluster


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
    stated = {"finalists": finalists, "max_seeds": max_seeds, "margin": margin, "level": level}
    changes = {name: value for name, value in stated.items() if value is not None}
    cluster = cluster_of(on, address, num_cpus, num_gpus)
    race_study(study, changes, cluster, workers_of(workers), as_json=as_json)
    typer.echo(f"next: {next_command('promote', 'best', study)}", err=True)


def race_study(
    study: str,
    changes: "Mapping[str, Any]",
    cluster: "Cluster | None" = None,
    workers: "AutoOrCount | None" = None,
    *,
    as_json: bool = False,
) -> None:
    """Runs the confirmation of a study, and prints what it found.

    Args:
        study: its name.
        changes: rules that replace those of the study file.
        cluster: where trainers run; this machine by default.
        workers: how many trainers; by default as many as for the study.
        as_json: print JSON.

    Raises:
        Exit: a signal has stopped it, or it is not finished.
    """
    from tuner.study.confirmation.race_study import confirmation_of, find_confirmation, forecast
    from tuner.study.confirmation.report import find_report
    from tuner.study.study import load_study

    with load_study(study) as opened:
        is_new = find_confirmation(opened) is None
        file = confirmation_of(opened, changes).with_workers(workers)
        cost = forecast(opened, file.spec) if is_new else None
        if cost is not None:
            typer.echo(f"{file.spec.name}: {cost}", err=True)
        summary = run_file(file, cluster)
        found = find_report(opened)
    assert found is not None, "the race has begun"
    if as_json:
        typer.echo(found.model_dump_json(indent=2))
    else:
        print_confirmation(found)
    check_some_completed(summary)
    if not summary.done:
        typer.echo(f"{found.study} is not finished; resume with: {same_command()}", err=True)
        raise typer.Exit(ExitCode.OK)
