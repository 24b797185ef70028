"""The studies in the database: creates, finds, changes and deletes them."""

import re
import uuid
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from types import MappingProxyType
from typing import Any

import optuna
from optuna.exceptions import DuplicatedStudyError
from pydantic import ValidationError
from sqlalchemy import bindparam, delete, insert, select, update
from sqlalchemy.exc import IntegrityError

from tuner.clock import now_ms
from tuner.datasets.store import DatasetInfo
from tuner.errors import RefusedError, SpecError, UsageError, unknown
from tuner.spec.resume import resume_problems, with_stored_choices
from tuner.spec.study_spec import StudySpec
from tuner.spec.text.reader import parse_stored
from tuner.spec.text.writer import to_stored
from tuner.storage.code_versions import insert_version
from tuner.storage.database import Database
from tuner.storage.tables import code, intact, studies, submissions
from tuner.training.plan import Precision
from tuner.words import command

MeasuredRounds = Mapping[Precision, Sequence[float]]
"""Seconds per epoch in each measured round, by precision."""
NOT_MEASURED: MeasuredRounds = MappingProxyType({})

_REGISTERED = "registered:"
"""Prefix of the study attributes in Optuna's table that record a registered version."""
_UID = re.compile("[0-9a-f]{32}")

_DIGEST = (
    select(code.c.digest)
    .where(code.c.study == studies.c.name)
    .order_by(code.c.from_trial.desc())
    .limit(1)
    .scalar_subquery()
    .label("digest")
)
"""The digest of a study's newest code."""
_BY_NAME = select(studies).where(studies.c.name == bindparam("study"))
_ORDERS = select(studies.c.desired_state, studies.c.spec, _DIGEST).where(
    studies.c.name == bindparam("study")
)


class DesiredState(StrEnum):
    """What the user wants from a study's drivers. `pause`: they start no new trial."""

    RUN = "run"
    PAUSE = "pause"
    STOP = "stop"


@dataclass(frozen=True)
class StudyRecord:
    """A study as it is stored in the database."""

    uid: str
    spec: StudySpec
    source: str
    """The study file's path as it was given, for messages."""
    overrides: tuple[str, ...]
    """The overrides of the file (`--set`), as typed."""
    code_path: tuple[Path, ...]
    """The folders of the user's modules."""
    dataset: DatasetInfo
    created_ms: int
    desired_state: DesiredState
    epoch_s: MeasuredRounds
    """The measured epoch times, if the precision was chosen by measuring."""

    @property
    def name(self) -> str:
        """The study's name."""
        return self.spec.name

    @property
    def file(self) -> Path:
        """The study file's path on the machine that last ran the study."""
        return Path(*self.code_path[:1], Path(self.source).name)


class Catalog:
    """Every study of one database."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def names(self) -> list[str]:
        """Returns the name of every study, the newest last."""
        statement = select(studies.c.name).order_by(studies.c.created_ms)
        return self._database.transact(lambda one: list(one.execute(statement).scalars()))

    def readable(self) -> tuple[list[StudyRecord], dict[str, UsageError]]:
        """Returns every study, the newest last, and the error of each unreadable one by name."""
        statement = select(studies).order_by(studies.c.created_ms)
        rows = self._database.transact(lambda one: one.execute(statement).all())
        found, unreadable = [], {}
        for row in rows:
            try:
                found.append(_record(row._mapping))
            except UsageError as error:  # for example, a newer tuner wrote it
                unreadable[row.name] = error
        return found, unreadable

    def find(self, name: str) -> StudyRecord | None:
        """Returns the study with this name, or None.

        Raises:
            UsageError: its row was changed, not by tuner, or was written by another version.
        """
        row = self._database.transact(lambda one: one.execute(_BY_NAME, {"study": name}).first())
        return None if row is None else _record(row._mapping)

    def get(self, name: str) -> StudyRecord:
        """Returns the study with this name.

        Raises:
            UsageError: there is none, or `find` cannot read it.
        """
        record = self.find(name)
        if record is None:
            known = self.names()
            if self._is_submitted(name):
                raise UsageError(
                    f"study {name!r} has been submitted, and no worker has started it yet; "
                    f"follow it with: {command('watch', name)}, withdraw it with: "
                    f"{command('delete', name)}"
                )
            if not known:
                raise UsageError(f"no study {name!r}: this database holds none yet")
            raise UsageError(unknown("study", name, known))
        return record

    def _is_submitted(self, name: str) -> bool:
        statement = select(submissions.c.name).where(submissions.c.name == name)
        return self._database.transact(lambda one: one.execute(statement).first()) is not None

    def create(
        self,
        spec: StudySpec,
        source: str,
        code_path: tuple[Path, ...],
        dataset: DatasetInfo,
        submitted_ms: int | None = None,
        overrides: tuple[str, ...] = (),
        *,
        epoch_s: MeasuredRounds = NOT_MEASURED,
        files: Mapping[str, str] | None = None,
    ) -> StudyRecord:
        """Creates the study, or returns the one that another driver has just created.

        Writes Optuna's row first, so that tuner's row means that the study is complete. What is
        tuner's is written in one transaction. Deletes the submission with this name.

        Args:
            spec: the study.
            source: its file's path, for messages.
            code_path: the folders of the modules that it names.
            dataset: its data set.
            submitted_ms: time of the submission that this study comes from, if any.
            overrides: the overrides of the file (`--set`), as typed.
            epoch_s: the measured epoch times, if its precision was chosen by measuring.
            files: the user's code that its trials are to be trained with, the text of each file by
                path; by default what its first driver finds.

        Raises:
            RefusedError: the submission was withdrawn or replaced meanwhile, or Optuna has a study
                with this name that tuner did not create.
        """
        self._create_optuna_study(spec)
        row = {
            "name": spec.name,
            "uid": uuid.uuid4().hex,
            "spec": to_stored(spec),
            "source": source,
            "overrides": overrides,
            "code_path": [str(folder) for folder in code_path],
            "dataset": dataset.model_dump(mode="json"),
            "backend": spec.backend,
            "created_ms": now_ms(),
            "desired_state": DesiredState.RUN,
            "epoch_s": dict(epoch_s),
        }
        answered = delete(submissions).where(submissions.c.name == spec.name)
        if submitted_ms is not None:
            answered = answered.where(submissions.c.submitted_ms == submitted_ms)
        with suppress(IntegrityError), self._database.engine.begin() as connection:
            connection.execute(insert(studies).values(row))
            if files is not None:
                insert_version(connection, spec.name, files)
            if not connection.execute(answered).rowcount and submitted_ms is not None:
                raise RefusedError(
                    f"study {spec.name!r} was withdrawn or submitted again meanwhile"
                )
        return self.get(spec.name)

    def check_resumable(self, spec: StudySpec, source: str) -> StudyRecord:
        """Returns the stored study if `spec` may resume it. Changes nothing.

        Raises:
            UsageError: there is no such study.
            SpecError: the file has changed in a way that makes it another study.
        """
        record = self.get(spec.name)
        problems = resume_problems(record.spec, spec)
        if problems:
            raise SpecError(source, [*problems, "give it another name with --name, or delete it"])
        return record

    def resume(
        self,
        spec: StudySpec,
        source: str,
        code_path: tuple[Path, ...],
        overrides: tuple[str, ...] = (),
    ) -> StudyRecord:
        """Stores the file's permitted changes, its path and the code folders.

        Raises:
            UsageError: there is no such study.
            SpecError: the file has changed in a way that makes it another study.
        """
        record = self.check_resumable(spec, source)
        folders = [str(folder) for folder in code_path]
        text = to_stored(with_stored_choices(record.spec, spec))
        self._update(spec.name, spec=text, source=source, overrides=overrides, code_path=folders)
        return self.get(spec.name)

    def set_desired_state(self, name: str, state: DesiredState) -> None:
        """Stores the desired state. Every driver of the study reads it within a second."""
        self._update(name, desired_state=state)

    def desired_state(self, name: str) -> DesiredState:
        """Returns the study's desired state; `STOP` if it was deleted."""
        return self.orders(name)[0]

    def orders(self, name: str) -> tuple[DesiredState, str, str]:
        """Returns the study's desired state, stored file and code digest.

        If the study was deleted: `STOP` and two empty strings.
        """
        row = self._database.transact(lambda one: one.execute(_ORDERS, {"study": name}).first())
        if row is None:
            return DesiredState.STOP, "", ""
        return _desired_state(row.desired_state), row.spec, row.digest or ""

    def in_state(self, state: DesiredState) -> list[tuple[str, str, str]]:
        """Returns name, uid and text of the studies in this desired state, the oldest first.

        The text is the stored file and the code's digest: it differs if one of them has changed.
        """
        columns = studies.c.name, studies.c.uid, studies.c.spec, _DIGEST
        statement = select(*columns).where(studies.c.desired_state == state)
        statement = statement.order_by(studies.c.created_ms)
        rows = self._database.transact(lambda one: one.execute(statement).all())
        return [(row.name, row.uid, f"{row.spec}\n# code {row.digest or ''}") for row in rows]

    def delete(self, name: str) -> None:
        """Deletes the study's rows: tuner's first, since that row means the study is complete.

        The record of its accesses to test sets stays.

        Raises:
            KeyError: Optuna has no study with this name.
        """
        with self._database.engine.begin() as connection:
            connection.execute(delete(studies).where(studies.c.name == name))
        storage = self._database.storage
        storage.delete_study(storage.get_study_id_from_name(name))

    def _create_optuna_study(self, spec: StudySpec) -> None:
        try:
            optuna.create_study(
                study_name=spec.name,
                storage=self._database.storage,
                direction=spec.objective.direction,
            )
        except DuplicatedStudyError:
            self._adopt_leftover(spec)

    def _adopt_leftover(self, spec: StudySpec) -> None:
        """Reuses an Optuna study without trials, which an interrupted deletion leaves behind."""
        if self.find(spec.name) is not None:
            return
        study = optuna.load_study(study_name=spec.name, storage=self._database.storage)
        if study.get_trials(deepcopy=False):
            raise RefusedError(
                f"study {spec.name!r}: Optuna has a study with this name and trials that tuner "
                "did not create; choose another --name"
            )
        if study.direction.name.lower() != spec.objective.direction:
            optuna.delete_study(study_name=spec.name, storage=self._database.storage)
            self._create_optuna_study(spec)

    def _update(self, name: str, **values: Any) -> None:
        statement = update(studies).where(studies.c.name == name).values(**values)
        self._database.transact(lambda connection: connection.execute(statement))


class Registrations:
    """The model versions that promotions of one study have registered.

    A version is identified by a digest of everything that its predictions depend on
    (`tuner.promotion.registry.versions`).
    """

    def __init__(self, database: Database, study: str) -> None:
        self._storage = database.storage
        self._study = study

    def add(self, digest: str) -> None:
        """Records a version. Recording it again changes nothing."""
        study_id = self._storage.get_study_id_from_name(self._study)
        self._storage.set_study_user_attr(study_id, f"{_REGISTERED}{digest}", value=True)

    def has(self, digest: str) -> bool:
        """Whether the version is recorded."""
        study_id = self._storage.get_study_id_from_name(self._study)
        return f"{_REGISTERED}{digest}" in self._storage.get_study_user_attrs(study_id)


def _record(row: Any) -> StudyRecord:
    # The files of the oldest studies do not name the backend. The variable of today may differ.
    spec = parse_stored(row["spec"], row["name"], backend=row["backend"])
    if spec.name != row["name"] or not _UID.fullmatch(str(row["uid"])):  # both name folders
        raise UsageError(
            f"study {row['name']!r}: its row in the database is not what tuner wrote there: its "
            f"uid is {row['uid']!r}, and its file names the study {spec.name!r}; restore the "
            f"database, or remove the row from the table {studies.name}"
        )

    def column(name: str) -> Any:
        return intact(row[name], f"study {spec.name!r}: its {name}")

    return StudyRecord(
        uid=row["uid"],
        spec=spec,
        source=row["source"],
        overrides=tuple(column("overrides")),
        code_path=tuple(Path(folder) for folder in column("code_path")),
        dataset=_dataset(column("dataset"), spec.name),
        created_ms=row["created_ms"],
        desired_state=_desired_state(row["desired_state"]),
        epoch_s=column("epoch_s") or NOT_MEASURED,
    )


def _dataset(stored: Any, study: str) -> DatasetInfo:
    """Reads the stored data set. Ignores keys that only a newer version of tuner knows."""
    try:
        return DatasetInfo.model_validate(stored, extra="ignore")
    except ValidationError as error:
        where = ", ".join(".".join(map(str, each["loc"])) for each in error.errors())
        raise UsageError(
            f"study {study!r}: another version of tuner stored its data set, and this version "
            f"cannot read {where}; use that version, or delete the study with: "
            f"{command('delete', study)}"
        ) from error


def _desired_state(value: Any) -> DesiredState:
    return DesiredState(value) if value in set(DesiredState) else DesiredState.STOP
