"""`tuner run-study`: runs a study file, or goes on with it."""

import json
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tuner.cli.terminal.shell import program, same_command
from tuner.errors import ExitCode, UsageError

if TYPE_CHECKING:
    from tuner.study.study_file import StudyFile
    from tuner.study.summary import StudySummary
    from tuner.workers.cluster import Cluster


class Platform(StrEnum):
    """What trainers run on, other than the machine of their driver."""

    RAY = "ray"


def run_study(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The study file, YAML.")],
    trials: Annotated[int | None, typer.Option(help="How many trials in all.")] = None,
    epochs: Annotated[int | None, typer.Option(help="How many epochs a trial.")] = None,
    workers: Annotated[str | None, typer.Option(help="How many trainers at once, or auto.")] = None,
    name: Annotated[str | None, typer.Option(help="Run it under another name.")] = None,
    accept_new_code: Annotated[
        bool,
        typer.Option("--accept-new-code", help="Go on though your code has changed; recorded."),
    ] = False,
    detach: Annotated[
        bool, typer.Option("--detach", help="Leave it to tuner worker processes, and return.")
    ] = False,
    on: Annotated[
        Platform | None, typer.Option(help="Where the trainers run, if not on this machine.")
    ] = None,
    address: Annotated[
        str | None, typer.Option(help="The Ray cluster, HOST:PORT; otherwise RAY_ADDRESS.")
    ] = None,
    num_cpus: Annotated[
        float, typer.Option(min=0, help="With --on ray: cores that a trainer takes.")
    ] = 1.0,
    num_gpus: Annotated[
        float | None,
        typer.Option(min=0, help="With --on ray: GPUs that a trainer takes, or a part of one."),
    ] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Override any key, such as epochs=3."),
    ] = None,
) -> None:
    """Run a study, or go on where it stopped."""
    from tuner.spec.text.reader import read_study

    if on is None and (address or num_gpus is not None or num_cpus != 1.0):
        raise UsageError("--address, --num-cpus and --num-gpus: must come with --on ray")
    if on is not None and detach:
        raise UsageError("--detach: leaves the study to tuner worker, so --on ray cannot be meant")
    if accept_new_code and detach:
        raise UsageError(
            "--accept-new-code: takes the code that is here, so --detach cannot be meant"
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
    from tuner.workers.cluster import Cluster

    cluster = Cluster(address, num_cpus, num_gpus) if on else None
    summary = _run(study_file, cluster, accept_new_code=accept_new_code)
    print_summary(summary)
    check_some_completed(summary)
    _say_what_is_next(summary)


def _submit(file: "StudyFile") -> None:
    from tuner.home import Home
    from tuner.study.submissions import submit_study

    name = file.spec.name
    new = submit_study(file, Home.from_environment())
    what = "is submitted; a tuner worker begins it" if new else "goes on with the next tuner worker"
    typer.echo(f"{name} {what}; follow it with: {program()} watch {name}", err=True)


def _run(file: "StudyFile", cluster: "Cluster | None", *, accept_new_code: bool) -> "StudySummary":
    from rich.console import Console

    from tuner.cli.terminal.live_view import view
    from tuner.cli.terminal.signals import StopSignals
    from tuner.driver.session import run_study as run
    from tuner.home import Home

    with StopSignals() as signals, view(Console(stderr=True)) as shown:
        home, stopped = Home.from_environment(), signals.received
        summary = run(
            file,
            home,
            cluster=cluster,
            accept_new_code=accept_new_code,
            notify=shown.show,
            stopped=stopped,
        )
    if signals.exit_code is not None:
        typer.echo(f"stopped; go on with: {same_command()}", err=True)
        raise typer.Exit(signals.exit_code)
    return summary


def _say_what_is_next(summary: "StudySummary") -> None:
    if not summary.done:
        typer.echo(f"{summary.study} is not finished; go on with: {same_command()}", err=True)
        raise typer.Exit(ExitCode.OK)
    best = summary.best
    steps = {f"{program()} ui": "compare the trials in MLflow"}
    if best is not None and not best.trial.unpromotable:
        steps[f"{program()} promote best {summary.study}"] = "test the best one and register it"
    width = max(map(len, steps))
    typer.echo("next:", err=True)
    for step, what in steps.items():
        typer.echo(f"  {step:<{width}}   {what}", err=True)
    if best is not None and best.trial.unpromotable:
        typer.echo(
            f"trial {best.trial.number}, the best, cannot be promoted: {best.trial.unpromotable}; "
            "change the model so that it can be, and run it as a study under another --name",
            err=True,
        )
