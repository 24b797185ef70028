"""`tuner stop`: asks a study's drivers to stop."""

import typer

from tuner.cli.terminal.options import StudyName
from tuner.errors import RefusedError


def stop(study: StudyName) -> None:
    """Stop a study; its trials in progress are handed back, and no worker takes it up."""
    from tuner.study.study import load_study

    with load_study(study) as opened:
        if opened.summary().done:
            raise RefusedError(f"study {study!r} has ended; there is nothing to stop")
        opened.ask("stop")
        what = f"asked {study} to stop" if opened.is_driven() else f"{study} has no driver now"
    typer.echo(f"{what}; it goes on with: tuner resume {study}, or tuner run-study", err=True)
