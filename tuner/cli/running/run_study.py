"""`tuner run-study`: runs a study file, or resumes it."""

import json
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tuner.cli.running.confirm import print_confirmed
from tuner.cli.terminal.options import (
    Address,
    NumCpus,
    NumGpus,
    On,
    Workers,
    cluster_of,
)
from tuner.cli.terminal.shell import next_command
from tuner.cli.terminal.study_run import check_finished, run_file
from tuner.errors import UsageError

if TYPE_CHECKING:
    from tuner.study.study_file import StudyFile
    from tuner.study.summary import StudySummary
    from tuner.workers.cluster import Cluster


def run_study(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The study file, YAML.")],
    trials: Annotated[int | None, typer.Option(help="The number of trials.")] = None,
    epochs: Annotated[int | None, typer.Option(help="The epochs of a trial.")] = None,
    workers: Workers = None,
    name: Annotated[str | None, typer.Option(help="Another name for the study.")] = None,
    accept_new_code: Annotated[
        bool,
        typer.Option("--accept-new-code", help="Resume although your code has changed; recorded."),
    ] = False,
    detach: Annotated[
        bool, typer.Option("--detach", help="Submit it to tuner worker processes, and return.")
    ] = False,
    on: On = None,
    address: Address = None,
    num_cpus: NumCpus = 1.0,
    num_gpus: NumGpus = None,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Override any key, such as epochs=3."),
    ] = None,
) -> None:
    """Run a study, or resume it where it stopped. Decide the claims that it states."""
    from tuner.spec.text.reader import read_study

    cluster = cluster_of(on, address, num_cpus, num_gpus)
    if on is not None and detach:
        raise UsageError("--detach and --on ray exclude each other: a tuner worker runs the study")
    if accept_new_code and detach:
        raise UsageError(
            "--accept-new-code and --detach exclude each other: only this machine has the new code"
        )
    stated = {"trials": trials, "epochs": epochs, "workers": workers, "name": name}
    options = [
        f"{key}={value if key == 'workers' else json.dumps(value)}"
        for key, value in stated.items()
        if value is not None
    ]
    overrides = (*options, *(settings or []))
    spec = read_study(file, overrides)

    from tuner.cli.results.show import check_some_completed, print_summary
    from tuner.study.study_file import StudyFile  # once the file is known to be a study

    study_file = StudyFile(spec, str(file), (file.parent,), overrides)
    if detach:
        _submit(study_file)
        return
    summary = run_file(study_file, cluster, accept_new_code=accept_new_code)
    print_summary(summary)
    check_some_completed(summary)
    _decide_claims(study_file, summary, cluster)
    _say_what_is_next(summary)


def _decide_claims(file: "StudyFile", summary: "StudySummary", cluster: "Cluster | None") -> None:
    from tuner.driver.confirmation import decide_claims
    from tuner.home import Home

    home = Home.from_environment()
    raced = decide_claims(
        file, summary, home, partial(run_file, cluster=cluster), partial(typer.echo, err=True)
    )
    if raced is not None:
        print_confirmed(raced)


def _submit(file: "StudyFile") -> None:
    from tuner.home import Home
    from tuner.study.submissions import submit_study

    name = file.spec.name
    new = submit_study(file, Home.from_environment())
    what = "is submitted; a tuner worker starts it" if new else "resumes with the next tuner worker"
    typer.echo(f"{name} {what}; follow it with: {next_command('watch', name)}", err=True)


def _say_what_is_next(summary: "StudySummary") -> None:
    check_finished(summary)
    best = summary.best
    steps = {next_command("ui"): "compare the trials in MLflow"}
    if best is not None and not best.trial.unpromotable:
        steps[next_command("promote", "best", summary.study)] = (
            "confirm the best point, test and register it"
        )
    width = max(map(len, steps))
    typer.echo("next:", err=True)
    for step, what in steps.items():
        typer.echo(f"  {step:<{width}}   {what}", err=True)
    if best is not None and best.trial.unpromotable:
        typer.echo(
            f"the best point, {best.point}, cannot be promoted: {best.trial.unpromotable}; "
            "change the model, and run it as a new study with another --name",
            err=True,
        )
