"""The version of tuner's tables in a database: created, checked or upgraded here."""

from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from sqlalchemy import Connection, inspect

from tuner.errors import UnavailableError
from tuner.storage import tables

VERSION_TABLE = "tuner_schema"
NEWEST = "0008"
"""The last of `migrations/versions`."""
_CHANGING_TABLES = 0x74756E6573
"""The key of the PostgreSQL advisory lock for changing tuner's tables: "tunes" in ASCII."""
_FIRST = "0001"
"""The version of tables that have no recorded version."""


def ensure(connection: Connection) -> None:
    """Creates the tables if there are none.

    Raises:
        UnavailableError: another version of tuner created them.
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
    """Upgrades the tables to the newest version. Returns whether they were older.

    Raises:
        UnavailableError: a newer version of tuner created them.
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
    """Returns the version of the tables, or None if there are none."""
    context = MigrationContext.configure(connection, opts={"version_table": VERSION_TABLE})
    version = context.get_current_revision()
    if version is None and inspect(connection).has_table(tables.studies.name):
        return _FIRST
    return version


def _alone(connection: Connection) -> None:
    """Lets one process in at a time, to the end of the transaction. SQLite does so anyway."""
    if connection.dialect.name == "postgresql":
        connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({_CHANGING_TABLES})")


def _config(connection: Connection) -> Config:
    config = Config()
    config.set_main_option("script_location", "tuner.storage:migrations")
    config.attributes["connection"] = connection
    return config
