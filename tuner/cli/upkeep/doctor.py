"""`tuner doctor`: checks the environment, MLflow and the studies, and repairs them."""

from typing import TYPE_CHECKING, Annotated

import typer

from tuner.cli.terminal.terminal_tables import print_table
from tuner.errors import RefusedError, UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tuner.recovery.doctor import Doctor
    from tuner.recovery.examination import Finding


def doctor(
    study: Annotated[
        str | None, typer.Argument(metavar="[STUDY]", help="The study's name; all by default.")
    ] = None,
    fix: Annotated[
        bool, typer.Option("--fix", help="Repair what can be repaired from this machine.")
    ] = False,
) -> None:
    """Check the environment, MLflow's store, and each study's database, spools and runs."""
    from tuner.home import Home
    from tuner.recovery.doctor import Doctor, studies_to_examine
    from tuner.recovery.environment import environment_report
    from tuner.recovery.examination import examine
    from tuner.storage.opening import open_database
    from tuner.study.driver_lock import is_driven_here
    from tuner.tracking.mlflow.store_repair import repair_store, store_problems
    from tuner.tracking.settings import TrackingSettings

    home = Home.from_environment()
    tracking = TrackingSettings.from_environment(home.root)
    print_table(["what", "found"], environment_report(home, tracking))
    if fix:
        names = home.studies()
        folders = [
            each
            for name in names
            for each in (home.current_study(name), *home.former_studies(name))
        ]
        repair_store(tracking, [name for name in names if is_driven_here(home, name)], folders)
    found = store_problems(tracking)
    for trouble in found:
        typer.echo(f"MLflow: {trouble.text}; with --fix it {trouble.remedy}")
    if found:  # then MLflow tells nothing reliable about the studies
        raise RefusedError("not everything is in order: MLflow")
    with open_database(home) as database:
        records, unreadable = studies_to_examine(database, study)
        for name, error in unreadable.items():
            typer.echo(f"{name}: cannot be read: {error}")
        doctors = [Doctor(home, database, record, tracking) for record in records] if fix else []
        unrepaired = {each.study: why for each in doctors if (why := _repair(each))}
        examined = examine(home, database, records, tracking)
    differing = [name for name, differences in examined.items() if not _agree(name, differences)]
    for name in unrepaired.keys() & set(differing):
        typer.echo(f"{name}: cannot be repaired now: {unrepaired[name]}")
    if wrong := [*unreadable, *differing]:
        raise RefusedError(f"not everything is in order: {', '.join(wrong)}")


def _repair(doctor: "Doctor") -> str:
    """Repairs the study. Returns why that was not possible; empty if it was."""
    try:
        doctor.repair(lambda text: typer.echo(text, err=True))
    except (RefusedError, UsageError) as error:  # it is running, or was deleted or changed just now
        return str(error)
    return ""


def _agree(study: str, differences: "Sequence[Finding]") -> bool:
    """Prints the study's differences. Returns whether there are none."""
    for each in differences:
        remedy = f"; with --fix it {each.remedy}" if each.remedy else ""
        typer.echo(f"{study}: {each.about}: {each.text}{remedy}")
    if not differences:
        typer.echo(f"{study}: the database, the spools here and MLflow agree")
    return not differences
