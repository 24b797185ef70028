"""`tuner enqueue`: puts a point in line for a study."""

from typing import Annotated

import typer

from tuner.cli.options import StudyName


def enqueue(
    study: StudyName,
    point: Annotated[
        list[str],
        typer.Argument(metavar="KEY=VALUE...", help="Searched parameters; the rest is sampled."),
    ],
) -> None:
    """Put a point in line: the study's next new trial trains it."""
    from tuner.spec.points import point_from_text
    from tuner.study.study import load_study

    with load_study(study) as opened:
        waiting = opened.enqueue(point_from_text(point, opened.spec))
        left = opened.summary().counts["waiting"]
    typer.echo(f"{waiting} waiting in line for {study}", err=True)
    if waiting > left:
        typer.echo(
            f"only {left} trials are left in its budget; raise it: tuner run-study --trials",
            err=True,
        )
