"""`tuner db`: the database that holds the studies."""

import typer

db = typer.Typer(no_args_is_help=True, help="Look after the database that holds the studies.")


@db.callback()
def _group() -> None:
    """Makes Typer keep the name of the one command in it."""


@db.command()
def upgrade() -> None:
    """Bring the tables that an older tuner or Optuna made to the version of this one."""
    from tuner.home import Home
    from tuner.storage.opening import upgrade_database

    changed = upgrade_database(Home.from_environment())
    typer.echo("upgraded" if changed else "nothing to upgrade", err=True)
