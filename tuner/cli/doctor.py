"""`tuner doctor`: whether everything is where it should be."""

from typing import TYPE_CHECKING, Annotated

import typer

from tuner.cli.tables import print_table
from tuner.errors import RefusedError, UsageError

if TYPE_CHECKING:
    from tuner.study.doctor import Doctor


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
                if not _is_in_order(name, patient, fix):
                    wrong.append(name)
            except (RefusedError, UsageError) as error:  # deleted just now, or changed by hand
                if study is not None:
                    raise
                typer.echo(f"{name}: cannot be read: {error}")
                wrong.append(name)
    if wrong:
        raise RefusedError(f"not everything is in order: {', '.join(wrong)}")


def _is_in_order(study: str, patient: "Doctor", fix: bool) -> bool:
    """Heals the study if it may, says what is wrong with it, and whether nothing is."""
    is_healed = True
    try:
        if fix:
            patient.heal(lambda text: typer.echo(text, err=True))
    except RefusedError as error:  # its driver may be at work
        typer.echo(f"{study}: cannot be healed now: {error}")
        is_healed = False
    found = patient.findings()
    for each in found:
        remedy = f"; with --fix it {each.remedy}" if each.remedy else ""
        typer.echo(f"{study}: {each.about}: {each.text}{remedy}")
    if not found:
        typer.echo(f"{study}: the database, the spools here and MLflow agree")
    return is_healed and not found
