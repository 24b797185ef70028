"""The version of our tables in a database: made with the newest, else checked or upgraded."""

from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from sqlalchemy import Connection, inspect

from tuner.errors import UnavailableError
from tuner.storage import tables

VERSION_TABLE = "tuner_schema"
NEWEST = "0005"
"""The last of `migrations/versions`."""
_CHANGING_TABLES = 0x74756E6573
"""The key of PostgreSQL's advisory lock under which our tables are made; no meaning but ours."""
_FIRST = "0001"
"""What the tables were before their version was written down."""


def ensure(connection: Connection) -> None:
    """Makes the tables where there are none.

    Raises:
        UnavailableError: they were made by another version of tuner.
    """
    _alone(connection)
    version = current(connection)
    if version is None:
        tables.metadata.create_all(connection)
        command.stamp(_config(connection), NEWEST)
    elif version < NEWEST:
        raise UnavailableError(
            f"the database has tuner's tables in version {version}, this tuner needs {NEWEST}; "
            "stop its drivers, make a copy, then run: tuner db upgrade"
        )
    elif version > NEWEST:
        raise UnavailableError(
            f"the database has tuner's tables in version {version}, newer than {NEWEST}, which "
            "this tuner knows; install the tuner that its other users have"
        )


def upgrade(connection: Connection) -> bool:
    """Brings the tables to the newest version; whether there was anything to do.

    Raises:
        UnavailableError: a newer tuner made them.
    """
    _alone(connection)
    version = current(connection)
    if version is None or version >= NEWEST:
        ensure(connection)
        return False
    if version == _FIRST:
        command.stamp(_config(connection), _FIRST)
    command.upgrade(_config(connection), NEWEST)
    return True


def current(connection: Connection) -> str | None:
    """The version of the tables, None where there are none."""
    context = MigrationContext.configure(connection, opts={"version_table": VERSION_TABLE})
    version = context.get_current_revision()
    if version is None and inspect(connection).has_table(tables.studies.name):
        return _FIRST
    return version


def _alone(connection: Connection) -> None:
    """One process at a time to the end of the transaction; on SQLite every one is."""
    if connection.dialect.name == "postgresql":
        connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({_CHANGING_TABLES})")


def _config(connection: Connection) -> Config:
    config = Config()
    config.set_main_option("script_location", "tuner.storage:migrations")
    config.attributes["connection"] = connection
    return config
