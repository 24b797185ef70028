"""`tuner enqueue`: queues a configuration to try next."""

from typing import Annotated

import typer

from tuner.cli.terminal.options import StudyName


def enqueue(
    study: StudyName,
    point: Annotated[
        list[str],
        typer.Argument(
            metavar="KEY=VALUE...", help="Searched parameters; the sampler chooses the others."
        ),
    ],
) -> None:
    """Queue a configuration to try next, before the sampler chooses another."""
    from tuner.spec.text.overrides import point_from_text
    from tuner.study.study import load_study

    with load_study(study) as opened:
        waiting = opened.enqueue(point_from_text(point, opened.spec))
        left = opened.open_points()
    typer.echo(f"{waiting} queued for {study}", err=True)
    if waiting > left:
        typer.echo(
            f"its budget has room for {left}; raise it with --trials when you run the study again",
            err=True,
        )
