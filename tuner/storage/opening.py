"""Opens the database that `TUNER_STORAGE_URL` names, or SQLite in the home folder."""

import os
import sqlite3
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Any

import optuna
import sqlalchemy
from optuna.storages import RDBStorage
from sqlalchemy import Connection, event
from sqlalchemy.exc import ArgumentError, DBAPIError, NoSuchModuleError, SQLAlchemyError

from tuner.errors import UnavailableError, UsageError, masked
from tuner.files import exclusive
from tuner.home import Home
from tuner.storage import schema_version
from tuner.storage.database import Database, error_text
from tuner.tracking.settings import sqlite_url

_BUSY_S = 60
_POSTGRESQL = {
    "client_encoding": "utf8",  # without it, psycopg returns bytes if the database has no encoding
    "connect_timeout": 10,
    "tcp_user_timeout": 10_000,  # milliseconds
    "keepalives_idle": 5,
    "keepalives_interval": 3,
    "keepalives_count": 3,
    "options": "-c idle_in_transaction_session_timeout=20s",
}
"""Client and server notice a dead network within seconds. So the locks of a driver that was
stopped inside a transaction are released before its lease expires."""
_CREATING_TABLES = 0x74756E6572
"""The key of the PostgreSQL advisory lock for creating tables: "tuner" in ASCII."""


def open_database(home: Home) -> Database:
    """Opens the database, and creates the tables if there are none.

    Raises:
        UsageError: the URL is invalid or names no known driver.
        UnavailableError: the database does not answer, rejects the user or has the tables
            of another version.
    """
    with _address(home) as url, ExitStack() as stack:
        database = stack.enter_context(closing(Database(_storage(url))))
        database.transact(schema_version.ensure)
        stack.pop_all()
        return database


def upgrade_database(home: Home) -> bool:
    """Upgrades Optuna's tables and tuner's to the version of this code.

    Returns:
        Whether any table was older.

    Raises:
        UsageError: the URL is invalid or names no known driver.
        UnavailableError: the database does not answer, or a step failed and was rolled back.
    """
    with _address(home) as url:
        storage = _storage(url, skip_compatibility_check=True)
        optuna_was_older = storage.get_current_version() != storage.get_head_version()
        if optuna_was_older:
            storage.upgrade()
        with Database(storage) as database:
            tuner_was_older = database.transact(schema_version.upgrade)
        return optuna_was_older or tuner_was_older


@contextmanager
def _address(home: Home) -> Iterator[sqlalchemy.URL]:
    """The database's URL. An error inside the block names the URL, with its password masked."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    home.create()
    text = os.environ.get("TUNER_STORAGE_URL") or sqlite_url(home.database)
    try:
        url = sqlalchemy.make_url(text)
        if url.drivername == "postgresql":
            url = url.set(drivername="postgresql+psycopg")
        yield url
    except (ArgumentError, NoSuchModuleError, ImportError) as error:
        raise UsageError(
            "TUNER_STORAGE_URL: must look like postgresql://user:password@host:5432/name "
            f"or sqlite:///file.db: {type(error).__name__}"
        ) from error
    except (SQLAlchemyError, sqlite3.Error, RuntimeError) as error:  # Optuna's: its schema
        raise UnavailableError(
            f"{masked(text)}: {error_text(error)}; "
            "check TUNER_STORAGE_URL and that the database is up"
        ) from error


def _storage(url: sqlalchemy.URL, **options: Any) -> RDBStorage:
    if url.get_backend_name() == "sqlite":
        return _sqlite_storage(url, **options)
    plain = url.render_as_string(hide_password=False).replace("{", "%7B")
    if url.get_backend_name() != "postgresql":
        return RDBStorage(plain, engine_kwargs={"pool_pre_ping": True}, **options)
    arguments = {key: value for key, value in _POSTGRESQL.items() if key not in url.query}
    with _alone(plain, arguments):
        engine = {"pool_pre_ping": True, "connect_args": arguments}
        return RDBStorage(plain, engine_kwargs=engine, **options)


@contextmanager
def _alone(url: str, arguments: dict[str, Any]) -> Iterator[None]:
    """Lets one process in at a time: Optuna does not expect two to create tables at once."""
    engine = sqlalchemy.create_engine(url, poolclass=sqlalchemy.NullPool, connect_args=arguments)
    with engine.connect() as connection:
        connection.exec_driver_sql(f"SELECT pg_advisory_lock({_CREATING_TABLES})")
        yield


def _sqlite_storage(url: sqlalchemy.URL, **options: Any) -> RDBStorage:
    """SQLite for several writing processes: WAL, and transactions that lock when they begin.

    The events are added after construction: Optuna's constructor uses two connections, which
    would wait for each other.
    """
    path = url.database
    if not path or path == ":memory:":
        raise UsageError("TUNER_STORAGE_URL: must name a file, since several processes read it")
    with sqlite3.connect(Path(path), timeout=_BUSY_S) as connection:
        connection.execute("PRAGMA journal_mode=WAL")
    connection.close()
    engine = {"connect_args": {"timeout": _BUSY_S}}
    with exclusive(Path(f"{path}.lock")):  # Optuna does not expect two to create tables at once
        storage = RDBStorage(url.render_as_string(False), engine_kwargs=engine, **options)
    storage.remove_session()
    storage.engine.dispose()
    event.listen(storage.engine, "connect", _prepare_connection)
    event.listen(storage.engine, "begin", _begin_immediate)
    return storage


def _prepare_connection(connection: Any, _record: Any) -> None:
    connection.isolation_level = None  # the driver starts no transaction of its own
    connection.execute("PRAGMA foreign_keys=ON")
    connection.execute("PRAGMA synchronous=FULL")


def _begin_immediate(connection: Connection) -> None:
    begin, driver = "BEGIN IMMEDIATE", connection.connection.dbapi_connection
    assert driver is not None, "it is not detached"
    try:
        driver.cursor().execute(begin)  # through SQLAlchemy each takes five times as long
    except sqlite3.Error as error:
        raise DBAPIError.instance(begin, None, error, sqlite3.Error) from error
