"""`tuner pause` and `tuner resume`: pause and resume a study, on any machine."""

import typer

from tuner.cli.terminal.options import StudyName
from tuner.errors import RefusedError
from tuner.words import command


def pause(study: StudyName) -> None:
    """Pause a study: running trials finish, and no new trial starts until it is resumed."""
    from tuner.storage.studies import DesiredState
    from tuner.study.study import load_study

    with load_study(study) as opened:
        if opened.summary().done:
            raise RefusedError(f"study {study!r} has ended; there is nothing to pause")
        opened.set_desired_state(DesiredState.PAUSE)
    typer.echo(f"{study} is paused; resume it with: {command('resume', study)}", err=True)


def resume(study: StudyName) -> None:
    """Resume a study that was paused or stopped."""
    from tuner.storage.studies import DesiredState
    from tuner.study.study import load_study

    with load_study(study) as opened:
        if opened.summary().done:
            raise RefusedError(f"study {study!r} has ended; give it more with --trials")
        opened.set_desired_state(DesiredState.RUN)
        driven = opened.is_driven()
    how = "" if driven else " with the next tuner worker, or tuner run-study with its file"
    typer.echo(f"{study} resumes{how}", err=True)
