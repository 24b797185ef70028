"""`tuner studies`: the studies in the database."""

from tuner.cli.tables import number, print_table, score
from tuner.errors import ExitCode


def studies() -> None:
    """List the studies, the newest last."""
    import typer

    from tuner.home import Home
    from tuner.study.catalog import Catalog
    from tuner.study.opening import open_database
    from tuner.study.study import Study

    home = Home.from_environment()
    with open_database(home) as database:
        catalog = Catalog(database)
        found = [Study(home, database, catalog.get(name)) for name in catalog.names()]
        if not found:
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
                    "yes" if study.is_driven() else "no",
                    f"{score(best.value)} (trial {number(best.number)})" if best else "-",
                )
            )
        print_table(["study", "data set", "model", "trials", "running", "best"], rows)
