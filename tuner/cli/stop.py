"""`tuner stop`: asks a study's drivers to stop."""

import typer

from tuner.cli.options import StudyName
from tuner.errors import RefusedError


def stop(study: StudyName) -> None:
    """Stop a running study; its trials in progress are handed back for the next run."""
    from tuner.study.study import load_study

    with load_study(study) as opened:
        if not opened.stop():
            raise RefusedError(f"study {study!r} is not running")
    typer.echo(f"asked {study} to stop; `tuner run-study` with its file goes on later", err=True)
