"""A study's Optuna trials in memory: a storage that samplers and pruners read without queries.

Optuna's own storages query the database at every step: ten epochs of a trial cost more than a
hundred queries, and more with each trainer. With this storage Optuna reads memory. `write` writes
this process's changes through Optuna's own storage; `refresh` reads those of other drivers.
"""

import copy
import math
import time
from collections.abc import Callable, Container, Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from functools import partial
from typing import Any

from optuna.distributions import BaseDistribution
from optuna.exceptions import UpdateFinishedTrialError
from optuna.storages import BaseStorage, get_storage
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy import Connection, String, bindparam, case, cast, func, select

from tuner.errors import RefusedError
from tuner.search.optuna_samplers import exact
from tuner.storage.database import Answer, Database
from tuner.storage.tables import OPTUNA_TRIALS, SLOT, rows_of_slot

_UNFINISHED = cast(OPTUNA_TRIALS.c.state, String).in_(("RUNNING", "WAITING"))
_NEWEST_AND_OPEN = select(
    func.max(OPTUNA_TRIALS.c.trial_id), func.sum(case((_UNFINISHED, 1), else_=0))
).where(OPTUNA_TRIALS.c.study_id == bindparam("study_id"))
"""The newest row of a study, and how many have not ended."""


class StudyStorage(BaseStorage):
    """The part of the storage that concerns the study itself.

    Everything is read from Optuna's own storage, which remembers a study's name and directions.
    """

    def __init__(self, database: Database, study: str) -> None:
        """Finds the study.

        Raises:
            RefusedError: the study was deleted.
        """
        self.database = database
        self._storage = get_storage(database.storage)  # it reads only new and unfinished rows
        try:
            self.study_id = self._storage.get_study_id_from_name(study)
        except KeyError as error:
            raise RefusedError(f"study {study!r} was deleted meanwhile") from error
        self._name = study

    def get_study_id_from_name(self, study_name: str) -> int:
        """Answers from memory for this study."""
        if study_name == self._name:
            return self.study_id
        return self._storage.get_study_id_from_name(study_name)

    def get_study_name_from_id(self, study_id: int) -> str:
        """Reads the database once."""
        return self._retried(self._storage.get_study_name_from_id, study_id)

    def get_study_directions(self, study_id: int) -> list[StudyDirection]:
        """Reads the database once."""
        return self._retried(self._storage.get_study_directions, study_id)

    def get_study_user_attrs(self, study_id: int) -> dict[str, Any]:
        """Reads the database."""
        return self._retried(self._storage.get_study_user_attrs, study_id)

    def get_study_system_attrs(self, study_id: int) -> dict[str, Any]:
        """Reads the database. Quasi-random sequences count their points here."""
        return self._retried(self._storage.get_study_system_attrs, study_id)

    def set_study_user_attr(self, study_id: int, key: str, value: Any) -> None:
        """Writes to the database immediately."""
        self._retried(self._storage.set_study_user_attr, study_id, key, value)

    def set_study_system_attr(self, study_id: int, key: str, value: Any) -> None:
        """Writes to the database immediately."""
        self._retried(self._storage.set_study_system_attr, study_id, key, value)

    def create_new_study(
        self, directions: Sequence[StudyDirection], study_name: str | None = None
    ) -> int:
        """Passes the call on to Optuna's storage."""
        return self._storage.create_new_study(directions, study_name)

    def delete_study(self, study_id: int) -> None:
        """Passes the call on to Optuna's storage."""
        self._storage.delete_study(study_id)

    def get_all_studies(self) -> list[Any]:
        """Passes the call on to Optuna's storage."""
        return list(self._storage.get_all_studies())

    def _retried(self, call: Callable[..., Answer], *arguments: Any) -> Answer:
        """Calls Optuna's storage, with retries while the database is unavailable.

        Raises:
            SupersededError: this driver was taken over.
            RefusedError: the study was deleted.
            UpdateFinishedTrialError: another process has ended the trial.
        """
        try:
            return self.database.with_retries(partial(call, *arguments))
        except (UpdateFinishedTrialError, KeyError) as error:
            self.database.transact(lambda _: None)  # a driver's fence knows the reason
            if isinstance(error, KeyError):
                raise RefusedError(f"study {self._name!r} was deleted meanwhile") from error
            raise


class _SecondRowError(Exception):
    """A slot would have got a second row."""


class OptunaRows(StudyStorage):
    """The trials of one study, as a storage for Optuna. Each trial is one row in the database.

    A row that this process changes is *held*: memory has its newest state, and no other process
    may change it until it is ended or released. Changes reach the database through Optuna's own
    storage, in one transaction, when `write` is called, and at the latest when the row is ended. A
    killed process loses the changes that it had not written. Not thread-safe.
    """

    def __init__(self, database: Database, study: str) -> None:
        """Opens the rows.

        Raises:
            RefusedError: the study was deleted.
        """
        super().__init__(database, study)
        self._rows: dict[int, FrozenTrial] = {}
        self._held: set[int] = set()
        self._hidden: frozenset[int] = frozenset()
        self._unwritten: list[tuple[int, Callable[[], object]]] = []
        """The rows' ids, and calls of Optuna's storage that have the same effect when repeated."""
        self._oldest = math.inf
        """When the first of the unwritten changes was made."""
        self._refreshed = -math.inf

    def all(self) -> list[FrozenTrial]:
        """Returns every row in memory, by number."""
        return sorted(self._rows.values(), key=lambda row: row.number)

    def refresh(self, max_age_s: float = 0.0) -> None:
        """Reads the changes of other drivers, unless the last refresh is newer than `max_age_s`."""
        if time.monotonic() - self._refreshed < max_age_s:
            return
        self._retried(self._refresh)
        self._refreshed = time.monotonic()

    def _refresh(self) -> None:
        if self._others_may_have_written():
            for row in self._storage.get_all_trials(self.study_id, deepcopy=False):
                if row._trial_id not in self._held:
                    self._rows[row._trial_id] = row

    def write(self, max_age_s: float = 0.0) -> None:
        """Writes all changes in one transaction, unless all are newer than `max_age_s`."""
        if self._unwritten and time.monotonic() - self._oldest >= max_age_s:
            self._retried(self._write)
            self._unwritten.clear()
            self._oldest = math.inf

    def _write(self) -> None:
        try:
            self.database.together(change for _, change in self._unwritten)
        except UpdateFinishedTrialError:
            ended = [trial_id for trial_id, _ in self._unwritten if self._has_ended(trial_id)]
            if not ended:
                raise
            self._unwritten = [each for each in self._unwritten if each[0] not in ended]
            self._write()

    def _has_ended(self, trial_id: int) -> bool:
        """Whether the row ended in the database as in memory, by a try whose answer was lost."""
        ours, stored = self._rows[trial_id], self._storage.get_trial(trial_id)
        ends = [(row.state, row.values) for row in (ours, stored)]
        return ours.state.is_finished() and ends[0] == ends[1]

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
            return self._retried(self._storage.get_trial, trial_id)
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
        """Creates a held row for the template's slot in the database, exactly one."""
        assert study_id == self.study_id
        assert template_trial is not None
        trial_id = self._retried(self._find_or_create, template_trial)
        self._rows[trial_id] = self._retried(self._storage.get_trial, trial_id)
        self._held.add(trial_id)
        return trial_id

    def _find_or_create(self, template: FrozenTrial) -> int:
        """Finds the row of the template's slot if a try whose answer was lost has created it."""
        slot = template.user_attrs[SLOT]
        self._refresh()
        for trial_id, row in self._rows.items():
            if row.user_attrs.get(SLOT) == slot:
                return trial_id
        try:
            with self._no_second_row(slot):
                return self._storage.create_new_trial(self.study_id, template)
        except _SecondRowError:
            return self._find_or_create(template)

    @contextmanager
    def _no_second_row(self, slot: int) -> Iterator[None]:
        """Inside the block, a commit fails that would give the slot a second row.

        Optuna repeats a creation by itself after an error, also if only the answer was lost.
        """
        rows = rows_of_slot(OPTUNA_TRIALS.c.trial_id, self._name, slot)

        def check(connection: Connection) -> None:
            if len(connection.execute(rows).all()) > 1:
                raise _SecondRowError

        self.database.add_check(check)
        try:
            yield
        finally:
            self.database.remove_check(check)

    def set_trial_param(
        self,
        trial_id: int,
        param_name: str,
        param_value_internal: float,
        distribution: BaseDistribution,
    ) -> None:
        """Adds a parameter to a held row. A value with a step becomes its exact decimal."""
        row = self._changing(trial_id)
        value = exact(distribution, param_value_internal)
        assert param_name not in row.params
        row.params[param_name] = distribution.to_external_repr(value)
        row.distributions[param_name] = distribution
        self._write_later(self._storage.set_trial_param, trial_id, param_name, value, distribution)

    def set_trial_intermediate_value(
        self, trial_id: int, step: int, intermediate_value: float
    ) -> None:
        """Sets a report of a held row."""
        value = intermediate_value + 0.0  # SQLite does not store the sign of a zero
        self._changing(trial_id).intermediate_values[step] = value
        self._write_later(self._storage.set_trial_intermediate_value, trial_id, step, value)

    def set_trial_user_attr(self, trial_id: int, key: str, value: Any) -> None:
        """Sets one of tuner's attributes on a held row."""
        self._changing(trial_id).user_attrs[key] = value
        self._write_later(self._storage.set_trial_user_attr, trial_id, key, value)

    def set_trial_system_attr(self, trial_id: int, key: str, value: Any) -> None:
        """Sets an attribute of a sampler or pruner on a held row."""
        self._changing(trial_id).system_attrs[key] = value
        self._write_later(self._storage.set_trial_system_attr, trial_id, key, value)

    def set_trial_state_values(
        self, trial_id: int, state: TrialState, values: Sequence[float] | None = None
    ) -> bool:
        """Ends a held row and writes all changes."""
        row = self._changing(trial_id)
        row.state, row.values = state, values
        row.datetime_complete = datetime.now()  # noqa: DTZ005 - Optuna uses local, naive times
        self._write_later(self._storage.set_trial_state_values, trial_id, state, values)
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

    def _write_later(self, write: Callable[..., object], trial_id: int, *arguments: Any) -> None:
        self._unwritten.append((trial_id, partial(write, trial_id, *arguments)))
        self._oldest = min(self._oldest, time.monotonic())

    def _others_may_have_written(self) -> bool:
        """Whether a row is new, or unfinished and not held. Finished rows never change."""
        open_ids = {key for key, row in self._rows.items() if not row.state.is_finished()}
        with self.database.engine.begin() as connection:
            found = connection.execute(_NEWEST_AND_OPEN, {"study_id": self.study_id})
            newest, open_rows = found.one()
        nothing_new = newest == max(self._rows, default=None) and (open_rows or 0) == len(open_ids)
        return not (nothing_new and open_ids <= self._held)
