"""Writes what changed in Optuna's rows, many changes in one transaction.

Optuna's storage reads twice before it writes a value, and commits after each. Values that
are known to be new are inserted here in bulk, into Optuna's tables as the database itself
describes them; everything else is left to Optuna's storage, joined into the same transaction.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from optuna.exceptions import StorageInternalError
from optuna.storages import RDBStorage
from sqlalchemy import Connection, MetaData, Table, insert, update
from sqlalchemy.exc import DisconnectionError
from sqlalchemy.orm import scoped_session, sessionmaker

from tuner.study.database import Database
from tuner.study.tables import drivers

PARAMS = "trial_params"
REPORTS = "trial_intermediate_values"
USER_ATTRIBUTES = "trial_user_attributes"
SYSTEM_ATTRIBUTES = "trial_system_attributes"


class RowWriter:
    """Changes that wait to be written, in the order in which they were made.

    Each transaction counts the driver's `writes` up. So one whose answer was lost, when the
    database went away, is not written twice.
    """

    def __init__(self, database: Database, driver: str | None) -> None:
        self._database = database
        self._storage = database.storage
        self._driver = driver
        self._written = 0
        self._inserts: dict[str, list[dict[str, Any]]] = {}
        self._changes: list[Callable[[], object]] = []
        self._since: float | None = None
        self._described = MetaData()

    def insert(self, table: str, **values: object) -> None:
        """Adds a row to one of Optuna's tables, which is known not to have it."""
        self._inserts.setdefault(table, []).append(values)
        self._since = self._since or time.monotonic()

    def change(self, change: Callable[[], object]) -> None:
        """Lets Optuna's storage change something, once everything is inserted."""
        self._changes.append(change)
        self._since = self._since or time.monotonic()

    def write(self, max_age_s: float = 0.0) -> None:
        """Writes all or nothing, unless all of it has waited for less than `max_age_s`."""
        if self._since is None or time.monotonic() - self._since < max_age_s:
            return
        self._database.transact(self._write_once)
        self._written += 1
        self._inserts.clear()
        self._changes.clear()
        self._since = None

    def _write_once(self, connection: Connection) -> None:
        assert self._driver is not None, "only a member changes rows"
        if not self._count(connection):
            return
        for table, rows in self._inserts.items():
            connection.execute(insert(self._table(table, connection)), rows)
        with _joined(self._storage, connection):
            try:
                for change in self._changes:
                    change()
            except StorageInternalError as error:
                if (
                    connection.invalidated or not connection.in_transaction()
                ):  # Optuna has tried again on what was gone
                    raise DisconnectionError("the connection was lost") from error
                raise

    def _count(self, connection: Connection) -> bool:
        """Whether this transaction is the first to write what waits."""
        statement = (
            update(drivers)
            .where(drivers.c.uid == self._driver, drivers.c.writes == self._written)
            .values(writes=self._written + 1)
        )
        return connection.execute(statement).rowcount == 1

    def _table(self, name: str, connection: Connection) -> Table:
        if name not in self._described.tables:
            self._described.reflect(connection, only=[name], resolve_fks=False)
        return self._described.tables[name]


@contextmanager
def _joined(storage: RDBStorage, connection: Connection) -> Iterator[None]:
    """Makes what `storage` does in the block a part of the connection's transaction.

    Its sessions leave the commit to that transaction, see "Joining a Session into an External
    Transaction" in SQLAlchemy's documentation.
    """
    own = storage.scoped_session
    joined = sessionmaker(bind=connection, join_transaction_mode="rollback_only")
    storage.scoped_session = scoped_session(joined)
    try:
        yield
    finally:
        storage.scoped_session.remove()
        storage.scoped_session = own
