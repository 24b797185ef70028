"""`tuner stop`: stops a study, on any machine."""

import typer

from tuner.cli.terminal.options import StudyName
from tuner.errors import RefusedError
from tuner.words import command


def stop(study: StudyName) -> None:
    """Stop a study: running trials are interrupted, and workers leave it alone until resumed."""
    from tuner.storage.studies import DesiredState
    from tuner.study.study import load_study

    with load_study(study) as opened:
        if opened.summary().done and not opened.is_driven():  # none that ships the rest
            raise RefusedError(f"study {study!r} has ended; there is nothing to stop")
        opened.set_desired_state(DesiredState.STOP)
        what = f"asked {study} to stop" if opened.is_driven() else f"{study} has no driver now"
    typer.echo(f"{what}; resume it with: {command('resume', study)}, or tuner run-study", err=True)
