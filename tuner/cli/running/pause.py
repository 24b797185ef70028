"""`tuner pause` and `tuner resume`: what a study's drivers are to do, wherever they are."""

import typer

from tuner.cli.terminal.options import StudyName
from tuner.errors import RefusedError


def pause(study: StudyName) -> None:
    """Let a study's trials in progress end and begin no other, until it is resumed."""
    from tuner.study.study import load_study

    with load_study(study) as opened:
        if opened.summary().done:
            raise RefusedError(f"study {study!r} has ended; there is nothing to pause")
        opened.ask("pause")
    typer.echo(f"{study} is paused; it goes on with: tuner resume {study}", err=True)


def resume(study: StudyName) -> None:
    """Let a study go on that was paused or stopped: its drivers, or whatever workers there are."""
    from tuner.study.study import load_study

    with load_study(study) as opened:
        if opened.summary().done:
            raise RefusedError(f"study {study!r} has ended; give it more with --trials")
        opened.ask("run")
        driven = opened.is_driven()
    how = "" if driven else " with the next tuner worker, or tuner run-study with its file"
    typer.echo(f"{study} goes on{how}", err=True)
