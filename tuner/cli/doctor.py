"""`tuner doctor`: whether everything is where it should be."""

from typing import Annotated

import typer

from tuner.cli.tables import print_table
from tuner.errors import RefusedError, UsageError


def doctor(
    study: Annotated[
        str | None, typer.Argument(metavar="[STUDY]", help="The study's name; all if left out.")
    ] = None,
    fix: Annotated[bool, typer.Option("--fix", help="Heal what can be healed from here.")] = False,
) -> None:
    """Check the surroundings, MLflow's store, and each study's database, spools and runs."""
    from tuner.home import Home
    from tuner.study.catalog import Catalog
    from tuner.study.doctor import Doctor
    from tuner.study.lock import is_driven_here
    from tuner.study.opening import open_database
    from tuner.study.surroundings import surroundings
    from tuner.tracking.settings import TrackingSettings
    from tuner.tracking.store_repair import mend, troubles

    home = Home.from_environment()
    tracking = TrackingSettings.from_environment(home.root)
    print_table(["what", "found"], surroundings(home, tracking))
    if fix:
        names = home.studies()
        folders = [each for name in names for each in (home.devoted(name), *home.formers(name))]
        mend(tracking, [name for name in names if is_driven_here(home, name)], folders)
    wrong = []
    for trouble in troubles(tracking):
        typer.echo(f"MLflow: {trouble.text}; with --fix it {trouble.remedy}")
        wrong.append("MLflow")
    with open_database(home) as database:
        catalog = Catalog(database)
        names = catalog.names() if study is None else [study]
        for name in [] if wrong else names:  # what MLflow says of a study would be no news
            try:
                patient = Doctor(home, database, catalog.get(name), tracking)
            except UsageError as error:
                if study is not None:
                    raise
                typer.echo(f"{name}: cannot be read: {error}")
                wrong.append(name)
                continue
            if fix:
                patient.heal(lambda text: typer.echo(text, err=True))
            found = patient.findings()
            for each in found:
                remedy = f"; with --fix it {each.remedy}" if each.remedy else ""
                typer.echo(f"{name}: {each.about}: {each.text}{remedy}")
            if found:
                wrong.append(name)
            else:
                typer.echo(f"{name}: the database, the spools here and MLflow agree")
    if wrong:
        raise RefusedError(f"not everything is in order: {', '.join(wrong)}")
