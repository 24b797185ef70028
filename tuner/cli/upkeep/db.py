"""`tuner db`: maintains the database of the studies."""

import typer

db = typer.Typer(no_args_is_help=True, help="Maintain the database of the studies.")


@db.callback()
def _group() -> None:
    """Makes Typer keep the command's name, although it is the only one."""


@db.command()
def upgrade() -> None:
    """Upgrade tables of an older tuner or Optuna to the current version."""
    from tuner.home import Home
    from tuner.storage.opening import upgrade_database

    changed = upgrade_database(Home.from_environment())
    typer.echo("upgraded" if changed else "nothing to upgrade", err=True)
