"""`tuner delete`: deletes a study."""

from typing import Annotated

import typer

from tuner.cli.terminal.options import StudyName
from tuner.errors import RefusedError
from tuner.words import count


def delete(
    study: StudyName,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask for confirmation.")] = False,
    keep_runs: Annotated[bool, typer.Option("--keep-runs", help="Keep its MLflow runs.")] = False,
) -> None:
    """Delete a study: its trials, files and MLflow runs. Registered models stay."""
    from tuner.home import Home
    from tuner.study.study import load_study
    from tuner.study.submissions import withdraw
    from tuner.tracking.settings import TrackingSettings

    home = Home.from_environment()
    if withdraw(home, study):
        typer.echo(f"withdrew {study}, which no worker had started", err=True)
        return
    with load_study(study, home) as opened:
        trials = len(opened.summary().trials)
        if not yes and not typer.confirm(
            f"Delete {study} with {count(trials, 'trial')}?", err=True
        ):
            raise RefusedError(f"{study} was not deleted")
        tracking = TrackingSettings.from_environment(home.root)

        def delete_its_runs() -> None:
            from tuner.tracking.mlflow.run_deletion import delete_runs

            deleted = delete_runs(tracking, study_uid=opened.record.uid)
            typer.echo(f"deleted {count(deleted, 'MLflow run')}", err=True)

        if keep_runs:
            opened.delete()
        else:
            opened.delete(before=delete_its_runs)
    typer.echo(f"deleted {study}", err=True)
