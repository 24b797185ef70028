"""`tuner delete`: deletes a study."""

from functools import partial
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
    """Delete a study, its confirmation and refits, and their MLflow runs.

    Registered models stay, and so does the record of its accesses to the test set.
    """
    from tuner.home import Home
    from tuner.study.confirmation.race_study import find_confirmation
    from tuner.study.confirmation.refit import find_refits
    from tuner.study.study import load_study
    from tuner.study.submissions import withdraw
    from tuner.tracking.settings import TrackingSettings

    home = Home.from_environment()
    if withdraw(home, study):
        typer.echo(f"withdrew {study}, which no worker had started", err=True)
        return
    with load_study(study, home) as opened:
        confirmation = find_confirmation(opened)
        following = [*filter(None, [confirmation]), *reversed(list(find_refits(opened)))]
        doomed = [*following, opened]
        for each in doomed:
            each.check_idle()
        trials = count(sum(len(each.summary().trials) for each in doomed), "trial")
        if not yes and not typer.confirm(
            f"Delete {' and '.join(each.name for each in reversed(doomed))} with {trials}?",
            err=True,
        ):
            raise RefusedError(f"{study} was not deleted")
        tracking = TrackingSettings.from_environment(home.root)

        def delete_runs_of(uid: str) -> None:
            from tuner.tracking.mlflow.run_deletion import delete_runs

            deleted = delete_runs(tracking, study_uid=uid)
            typer.echo(f"deleted {count(deleted, 'MLflow run')}", err=True)

        for each in doomed:
            if keep_runs:
                each.delete()
            else:
                each.delete(before=partial(delete_runs_of, each.record.uid))
            typer.echo(f"deleted {each.name}", err=True)
