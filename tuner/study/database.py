"""Opens the one database that Optuna's tables and ours share."""

import os
import sqlite3
from pathlib import Path
from typing import Any, Self

import optuna
import sqlalchemy
from optuna.exceptions import StorageInternalError
from optuna.storages import RDBStorage
from sqlalchemy import Connection, Engine, event
from sqlalchemy.exc import ArgumentError, NoSuchModuleError, SQLAlchemyError

from tuner.errors import UnavailableError, UsageError
from tuner.home import Home
from tuner.study import tables

_BUSY_S = 60


class Database:
    """A connection pool, and Optuna's storage on it. Close it, or use it in a `with` block.

    Such a block ends in an `UnavailableError` where the database went away or turned
    something down in the middle of it.
    """

    def __init__(self, storage: RDBStorage) -> None:
        self.storage = storage
        tables.metadata.create_all(self.engine)

    @property
    def engine(self) -> Engine:
        """SQLAlchemy's engine; `engine.begin()` is one transaction."""
        engine: Engine = self.storage.engine
        return engine

    def close(self) -> None:
        """Gives the connections back."""
        self.storage.remove_session()
        self.engine.dispose()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        self.close()
        if isinstance(error, SQLAlchemyError | StorageInternalError):
            raise UnavailableError(
                f"the database failed: {_first_line(error)}; run the same command to go on"
            ) from error


def open_database(home: Home) -> Database:
    """Opens `TUNER_STORAGE_URL`, or SQLite in the home folder, and makes missing tables.

    Raises:
        UsageError: the URL cannot be read or names no known driver.
        UnavailableError: the database does not answer or turns the user away.
    """
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    home.create()
    text = os.environ.get("TUNER_STORAGE_URL") or f"sqlite:///{home.database}"
    try:
        url = sqlalchemy.make_url(text)
        if url.get_backend_name() == "sqlite":
            return Database(_sqlite_storage(text))
        if url.drivername == "postgresql":
            url = url.set(drivername="postgresql+psycopg")
        plain = url.render_as_string(hide_password=False).replace("{", "%7B")
        return Database(RDBStorage(plain, engine_kwargs={"pool_pre_ping": True}))
    except (ArgumentError, NoSuchModuleError, ImportError) as error:
        raise UsageError(
            "TUNER_STORAGE_URL: must look like postgresql://user:password@host:5432/name "
            f"or sqlite:///file.db: {type(error).__name__}"
        ) from error
    except (SQLAlchemyError, sqlite3.Error, RuntimeError) as error:  # Optuna's: its schema
        raise UnavailableError(
            f"{sqlalchemy.make_url(text).render_as_string()}: {_first_line(error)}; "
            "check TUNER_STORAGE_URL and that the database is up"
        ) from error


def _sqlite_storage(url: str) -> RDBStorage:
    """SQLite that several processes may write: WAL, and transactions that lock at once.

    The events come after construction, because Optuna's own start-up takes two connections
    and would wait for itself.
    """
    path = sqlalchemy.make_url(url).database
    if path and path != ":memory:":
        with sqlite3.connect(Path(path), timeout=_BUSY_S) as connection:
            connection.execute("PRAGMA journal_mode=WAL")
        connection.close()
    storage = RDBStorage(url, engine_kwargs={"connect_args": {"timeout": _BUSY_S}})
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
    connection.exec_driver_sql("BEGIN IMMEDIATE")


def _first_line(error: Exception) -> str:
    """What the driver itself said, without SQLAlchemy's statement and parameters."""
    cause = error.__cause__ if isinstance(error, StorageInternalError) else error
    said = getattr(cause, "orig", None) or cause or error
    return str(said).strip().splitlines()[0] if str(said).strip() else type(said).__name__
