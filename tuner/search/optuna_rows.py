"""A study's Optuna trials in memory: a storage for Optuna that writes to the database in batches.

Optuna's own storages query the database at every step: ten epochs of a trial cost dozens of
queries and commits, and more with each trainer. With this storage samplers and pruners read
memory. A few transactions write this process's changes; `refresh` reads those of other drivers.
"""

import copy
import json
import math
import time
from collections.abc import Callable, Container, Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import Any

from optuna.distributions import BaseDistribution, distribution_to_json
from optuna.exceptions import StorageInternalError
from optuna.storages import BaseStorage, RDBStorage, get_storage
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy import Connection, MetaData, String, Table, case, cast, func, insert, select, update
from sqlalchemy.exc import DisconnectionError
from sqlalchemy.orm import scoped_session, sessionmaker

from tuner.errors import RefusedError
from tuner.search.optuna_samplers import exact
from tuner.storage.database import Database
from tuner.storage.tables import (
    OPTUNA_REPORTS,
    OPTUNA_TRIAL_ATTRIBUTES,
    OPTUNA_TRIALS,
    drivers,
)

_PARAMS = "trial_params"
_SYSTEM_ATTRIBUTES = "trial_system_attributes"


class StudyStorage(BaseStorage):
    """The part of the storage that concerns the study itself.

    Keeps the study's id, name and directions in memory and reads the rest from the database.
    """

    def __init__(self, database: Database, study: str) -> None:
        """Finds the study.

        Raises:
            RefusedError: the study was deleted.
        """
        self.database = database
        self._storage = database.storage
        try:
            self.study_id = self._storage.get_study_id_from_name(study)
        except KeyError as error:
            raise RefusedError(f"study {study!r} was deleted meanwhile") from error
        self._name = study
        self._directions: list[StudyDirection] | None = None

    def get_study_id_from_name(self, study_name: str) -> int:
        """Answers from memory for this study."""
        if study_name == self._name:
            return self.study_id
        return self._storage.get_study_id_from_name(study_name)

    def get_study_name_from_id(self, study_id: int) -> str:
        """Answers from memory for this study."""
        if study_id == self.study_id:
            return self._name
        return self._storage.get_study_name_from_id(study_id)

    def get_study_directions(self, study_id: int) -> list[StudyDirection]:
        """Reads the database once."""
        if self._directions is None:
            self._directions = self.database.with_retries(
                lambda: self._storage.get_study_directions(study_id)
            )
        return self._directions

    def get_study_user_attrs(self, study_id: int) -> dict[str, Any]:
        """Reads the database."""
        return self.database.with_retries(lambda: self._storage.get_study_user_attrs(study_id))

    def get_study_system_attrs(self, study_id: int) -> dict[str, Any]:
        """Reads the database. Quasi-random sequences count their points here."""
        return self.database.with_retries(lambda: self._storage.get_study_system_attrs(study_id))

    def set_study_user_attr(self, study_id: int, key: str, value: Any) -> None:
        """Writes to the database immediately."""
        self.database.with_retries(lambda: self._storage.set_study_user_attr(study_id, key, value))

    def set_study_system_attr(self, study_id: int, key: str, value: Any) -> None:
        """Writes to the database immediately."""
        self.database.with_retries(
            lambda: self._storage.set_study_system_attr(study_id, key, value)
        )

    def create_new_study(
        self, directions: Sequence[StudyDirection], study_name: str | None = None
    ) -> int:
        """Passes the call on to the database's storage."""
        return self._storage.create_new_study(directions, study_name)

    def delete_study(self, study_id: int) -> None:
        """Passes the call on to the database's storage."""
        self._storage.delete_study(study_id)

    def get_all_studies(self) -> list[Any]:
        """Passes the call on to the database's storage."""
        return list(self._storage.get_all_studies())


class OptunaRows(StudyStorage):
    """The trials of one study, as a storage for Optuna. Each trial is one row in the database.

    A row that this process changes is *held*: memory has its newest state, and no other process
    may change it until it is ended or released. Changes reach the database when `write` is called,
    and at the latest when the row is ended. A killed process loses the changes that it had not
    written. Not thread-safe.
    """

    def __init__(self, database: Database, study: str, driver: str | None) -> None:
        """Opens the rows: for the driver with this uid, or only to read if it is None.

        Raises:
            RefusedError: the study was deleted.
        """
        super().__init__(database, study)
        self._read = get_storage(database.storage)  # it reads only new and unfinished rows
        self._rows: dict[int, FrozenTrial] = {}
        self._held: set[int] = set()
        self._hidden: frozenset[int] = frozenset()
        self._writer = RowWriter(database, driver)
        self._refreshed = float("-inf")

    def all(self) -> list[FrozenTrial]:
        """Returns every row in memory, by number."""
        return sorted(self._rows.values(), key=lambda row: row.number)

    def refresh(self, max_age_s: float = 0.0) -> None:
        """Reads the changes of other drivers, unless the last refresh is newer than `max_age_s`."""
        if time.monotonic() - self._refreshed < max_age_s:
            return
        self.database.with_retries(self._refresh)
        self._refreshed = time.monotonic()

    def _refresh(self) -> None:
        if self._others_may_have_written():
            for row in self._read.get_all_trials(self.study_id, deepcopy=False):
                if row._trial_id not in self._held:
                    self._rows[row._trial_id] = row

    def write(self, max_age_s: float = 0.0) -> None:
        """Writes all changes in one transaction, unless all are newer than `max_age_s`."""
        self._writer.write(max_age_s)

    @contextmanager
    def hiding(self, trial_ids: Iterable[int]) -> Iterator[None]:
        """Hides these rows from Optuna inside the block."""
        self._hidden = frozenset(trial_ids)
        try:
            yield
        finally:
            self._hidden = frozenset()

    def release(self, trial_id: int) -> None:
        """Writes all changes, and lets other drivers change the row."""
        self.write()
        self._held.discard(trial_id)

    def get_trial(self, trial_id: int) -> FrozenTrial:
        """Returns the row from memory, or else from the database."""
        if trial_id not in self._rows:
            self.refresh()
        if trial_id not in self._rows:
            return self.database.with_retries(lambda: self._read.get_trial(trial_id))
        return self._rows[trial_id]

    def get_all_trials(
        self,
        study_id: int,
        deepcopy: bool = True,
        states: Container[TrialState] | None = None,
    ) -> list[FrozenTrial]:
        """Returns every row in memory that is not hidden, by number."""
        assert study_id == self.study_id
        rows = [
            row
            for row in self.all()
            if (states is None or row.state in states) and row._trial_id not in self._hidden
        ]
        return copy.deepcopy(rows) if deepcopy else rows

    def create_new_trial(self, study_id: int, template_trial: FrozenTrial | None = None) -> int:
        """Creates a held row in one transaction."""
        assert template_trial is not None
        made: list[int] = []
        create = self.database.storage.create_new_trial
        self._writer.change(lambda: made.append(create(study_id, template_trial)))
        self._writer.write()
        trial_id = made[-1]  # after retries, the last one was committed
        row = copy.copy(template_trial)
        row.number, row._trial_id = self._number(trial_id), trial_id
        self._rows[trial_id] = row
        self._held.add(trial_id)
        return trial_id

    def set_trial_param(
        self,
        trial_id: int,
        param_name: str,
        param_value_internal: float,
        distribution: BaseDistribution,
    ) -> None:
        """Adds a parameter to a held row. A value with a step becomes its exact decimal."""
        row = self._changing(trial_id)
        param_value_internal = exact(distribution, param_value_internal)
        assert param_name not in row.params
        row.params[param_name] = distribution.to_external_repr(param_value_internal)
        row.distributions[param_name] = distribution
        self._writer.insert(
            _PARAMS,
            trial_id=trial_id,
            param_name=param_name,
            param_value=param_value_internal,
            distribution_json=distribution_to_json(distribution),
        )

    def set_trial_intermediate_value(
        self, trial_id: int, step: int, intermediate_value: float
    ) -> None:
        """Adds a report to a held row."""
        intermediate_value += 0.0  # SQLite does not store the sign of a zero
        values = self._changing(trial_id).intermediate_values
        if step in values or not math.isfinite(intermediate_value):
            self._writer.change(
                lambda: self._read.set_trial_intermediate_value(trial_id, step, intermediate_value)
            )
        else:
            self._writer.insert(
                OPTUNA_REPORTS.name,
                trial_id=trial_id,
                step=step,
                intermediate_value=intermediate_value,
                intermediate_value_type="FINITE",
            )
        values[step] = intermediate_value

    def set_trial_user_attr(self, trial_id: int, key: str, value: Any) -> None:
        """Sets one of tuner's attributes on a held row."""
        attributes = self._changing(trial_id).user_attrs
        if key in attributes:
            self._writer.change(lambda: self._read.set_trial_user_attr(trial_id, key, value))
        else:
            self._insert_attribute(OPTUNA_TRIAL_ATTRIBUTES.name, trial_id, key, value)
        attributes[key] = value

    def set_trial_system_attr(self, trial_id: int, key: str, value: Any) -> None:
        """Sets an attribute of a sampler or pruner on a held row."""
        attributes = self._changing(trial_id).system_attrs
        if key in attributes:
            self._writer.change(lambda: self._read.set_trial_system_attr(trial_id, key, value))
        else:
            self._insert_attribute(_SYSTEM_ATTRIBUTES, trial_id, key, value)
        attributes[key] = value

    def set_trial_state_values(
        self, trial_id: int, state: TrialState, values: Sequence[float] | None = None
    ) -> bool:
        """Ends a held row and writes all changes."""
        row = self._changing(trial_id)
        row.state, row.values = state, values
        row.datetime_complete = datetime.now()  # noqa: DTZ005 - Optuna uses local, naive times
        self._writer.change(lambda: self._read.set_trial_state_values(trial_id, state, values))
        self.release(trial_id)
        return True

    def _changing(self, trial_id: int) -> FrozenTrial:
        """Replaces the row with a copy to change, so that rows given to callers never change."""
        before = self.get_trial(trial_id)
        self.check_trial_is_updatable(trial_id, before.state)
        row = copy.copy(before)
        row.params, row.distributions = dict(row.params), dict(row.distributions)
        row.user_attrs, row.system_attrs = dict(row.user_attrs), dict(row.system_attrs)
        row.intermediate_values = dict(row.intermediate_values)
        self._rows[trial_id] = row
        self._held.add(trial_id)
        return row

    def _others_may_have_written(self) -> bool:
        """Whether a row is new, or unfinished and not held. Finished rows never change."""
        open_ids = {key for key, row in self._rows.items() if not row.state.is_finished()}
        unfinished = cast(OPTUNA_TRIALS.c.state, String).in_(("RUNNING", "WAITING"))
        statement = select(
            func.max(OPTUNA_TRIALS.c.trial_id), func.sum(case((unfinished, 1), else_=0))
        ).where(OPTUNA_TRIALS.c.study_id == self.study_id)
        with self.database.engine.begin() as connection:
            newest, open_rows = connection.execute(statement).one()
        nothing_new = newest == max(self._rows, default=None) and (open_rows or 0) == len(open_ids)
        return not (nothing_new and open_ids <= self._held)

    def _number(self, trial_id: int) -> int:
        statement = select(OPTUNA_TRIALS.c.number).where(OPTUNA_TRIALS.c.trial_id == trial_id)
        return self.database.transact(lambda one: int(one.execute(statement).scalar_one()))

    def _insert_attribute(self, into: str, trial_id: int, key: str, value: Any) -> None:
        self._writer.insert(into, trial_id=trial_id, key=key, value_json=json.dumps(value))


class RowWriter:
    """A queue of changes, written in their order.

    Each transaction increments the driver's `writes`. So a transaction whose answer was lost is
    not written twice.
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
        """Queues a new row for one of Optuna's tables. The table must not have it yet."""
        self._inserts.setdefault(table, []).append(values)
        self._since = self._since or time.monotonic()

    def change(self, change: Callable[[], object]) -> None:
        """Queues a call of Optuna's storage. It runs after all inserts."""
        self._changes.append(change)
        self._since = self._since or time.monotonic()

    def write(self, max_age_s: float = 0.0) -> None:
        """Writes the queue in one transaction, unless all changes are newer than `max_age_s`."""
        if self._since is None or time.monotonic() - self._since < max_age_s:
            return
        self._database.transact(self._write_once)
        self._written += 1
        self._inserts.clear()
        self._changes.clear()
        self._since = None

    def _write_once(self, connection: Connection) -> None:
        assert self._driver is not None, "only a driver changes rows"
        if not self._count(connection):
            return
        for table, rows in self._inserts.items():
            connection.execute(insert(self._table(table, connection)), rows)
        with _joined(self._storage, connection):
            try:
                for change in self._changes:
                    change()
            except StorageInternalError as error:
                if connection.invalidated or not connection.in_transaction():
                    raise DisconnectionError("the connection was lost") from error
                raise

    def _count(self, connection: Connection) -> bool:
        """Increments `writes`. Returns False if the queue was written before."""
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
    """Makes all calls of `storage` in the block a part of the connection's transaction.

    See "Joining a Session into an External Transaction" in SQLAlchemy's documentation.
    """
    own = storage.scoped_session
    joined = sessionmaker(bind=connection, join_transaction_mode="rollback_only")
    storage.scoped_session = scoped_session(joined)
    try:
        yield
    finally:
        storage.scoped_session.remove()
        storage.scoped_session = own
