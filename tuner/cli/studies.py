"""`tuner studies`: the studies in the database."""

from typing import TYPE_CHECKING

from tuner.cli.tables import print_table, score
from tuner.errors import ExitCode, UsageError

if TYPE_CHECKING:
    from tuner.study.ranking import PointSummary


def studies() -> None:
    """List the studies, the newest last."""
    import typer

    from tuner.home import Home
    from tuner.study.catalog import Catalog
    from tuner.study.opening import open_database
    from tuner.study.study import Study
    from tuner.study.submissions import Submissions

    home = Home.from_environment()
    with open_database(home) as database:
        catalog = Catalog(database)
        found = []
        for name in catalog.names():
            try:
                found.append(Study(home, database, catalog.get(name)))
            except UsageError as error:  # of a newer tuner, or deleted just now
                typer.echo(f"{name} is left out: {error}", err=True)
        submitted = Submissions(database).all()
        if not found and not submitted:
            typer.echo("no study yet; start one: tuner run-study FILE", err=True)
            raise typer.Exit(ExitCode.OK)
        rows = []
        for study in found:
            summary = study.summary()
            ended = summary.slots - summary.counts["running"] - summary.counts["waiting"]
            best = summary.best
            rows.append(
                (
                    study.name,
                    study.spec.dataset.name,
                    study.spec.model,
                    f"{ended}/{summary.slots}",
                    study.state(summary),
                    _best(best) if best else "-",
                )
            )
        for each in submitted:
            spec = each.read()
            work = (spec.dataset.name, spec.model, f"0/{spec.slots}")
            rows.append((each.name, *work, "refused" if each.refusal else "submitted", "-"))
        print_table(["study", "data set", "model", "trials", "state", "best"], rows)


def _best(best: "PointSummary") -> str:
    if best.seeds == 1:
        return f"{score(best.mean)} (trial {best.trial.number})"
    return f"{score(best.mean)} (point {best.point}, mean of {best.completed})"
