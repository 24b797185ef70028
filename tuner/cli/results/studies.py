"""`tuner studies`: lists the studies in the database."""

from typing import TYPE_CHECKING

from tuner.cli.terminal.terminal_tables import print_table, score
from tuner.errors import ExitCode, UsageError

if TYPE_CHECKING:
    from tuner.study.overview import StudyOverview
    from tuner.study.submissions import Submission


def studies() -> None:
    """List the studies, the newest last."""
    import typer

    from tuner.home import Home
    from tuner.storage.opening import open_database
    from tuner.storage.studies import Catalog
    from tuner.study.overview import overview
    from tuner.study.submissions import Submissions

    home = Home.from_environment()
    with open_database(home) as database:
        records, unreadable = Catalog(database).readable()
        for name, error in unreadable.items():
            typer.echo(f"{name} is left out: {error}", err=True)
        submitted = Submissions(database).all()
        if not records and not submitted:
            typer.echo("no study yet; start one: tuner run-study FILE", err=True)
            raise typer.Exit(ExitCode.OK)
        rows = [_row(study) for study in overview(home, database, records)]
        for each in submitted:
            try:
                rows.append(_waiting(each))
            except UsageError as error:
                typer.echo(f"{each.name} is left out: {error}", err=True)
        print_table(["study", "data set", "model", "trials", "state", "best"], rows)


def _row(study: "StudyOverview") -> tuple[str, ...]:
    spec, tally = study.record.spec, study.tally
    trials = f"{tally.ended}/{tally.slots}"
    return spec.name, spec.dataset.name, spec.model, trials, study.state, _best(study)


def _waiting(submission: "Submission") -> tuple[str, ...]:
    spec, state = submission.read(), "refused" if submission.refusal else "submitted"
    return submission.name, spec.dataset.name, spec.model, f"0/{spec.slots}", state, "-"


def _best(study: "StudyOverview") -> str:
    best = study.best
    if best is None:
        return "-"
    spread = "" if best.std is None else f" ± {score(best.std)}"
    return f"{score(best.mean)}{spread} (point {best.point}, n = {len(best.trainings)})"
