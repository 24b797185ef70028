"""The studies in the database: made, found, changed and deleted here."""

import re
import uuid
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal, get_args

import optuna
from optuna.exceptions import DuplicatedStudyError
from pydantic import ValidationError
from sqlalchemy import delete, insert, select, update
from sqlalchemy.exc import IntegrityError

from tuner.clock import now_ms
from tuner.datasets.store import DatasetInfo
from tuner.errors import RefusedError, SpecError, UsageError, unknown
from tuner.spec.resume import resume_problems, settled
from tuner.spec.study_spec import StudySpec
from tuner.spec.text.reader import parse_stored
from tuner.spec.text.writer import to_stored
from tuner.storage.database import Database
from tuner.storage.tables import code, intact, studies, submissions
from tuner.training.plan import Precision

_KEY = "registered:"
"""What a study's attributes begin with in Optuna's table that stand for a registration."""


class Registrations:
    """The versions that promotions of one study have registered.

    Each is known by a digest of all that predicting goes by (`tuner.promotion.registry.versions`).
    """

    def __init__(self, database: Database, study: str) -> None:
        self._storage = database.storage
        self._study = study

    def add(self, digest: str) -> None:
        """Writes a version down; twice is as once."""
        study_id = self._storage.get_study_id_from_name(self._study)
        self._storage.set_study_user_attr(study_id, f"{_KEY}{digest}", value=True)

    def has(self, digest: str) -> bool:
        """Whether the version was written down."""
        study_id = self._storage.get_study_id_from_name(self._study)
        return f"{_KEY}{digest}" in self._storage.get_study_user_attrs(study_id)


Wish = Literal["run", "pause", "stop"]
"""What people want of a study's drivers: to go on, to begin no other trial, to leave."""


Rounds = Mapping[Precision, Sequence[float]]
NOTHING_MEASURED: Rounds = MappingProxyType({})

_UID = re.compile("[0-9a-f]{32}")

_DIGEST = (
    select(code.c.digest)
    .where(code.c.study == studies.c.name)
    .order_by(code.c.from_trial.desc())
    .limit(1)
    .scalar_subquery()
    .label("digest")
)
"""Of a study's newest code."""


@dataclass(frozen=True)
class StudyRecord:
    """A study as the database knows it."""

    uid: str
    spec: StudySpec
    source: str
    """The study file's path as it was given, for messages."""
    overrides: tuple[str, ...]
    """What was changed of the file, as it was typed."""
    code_path: tuple[Path, ...]
    dataset: DatasetInfo
    created_ms: int
    wish: Wish
    epoch_s: Rounds
    """Seconds of an epoch in each round, by precision, where that was chosen by measuring."""

    @property
    def name(self) -> str:
        """The study's name."""
        return self.spec.name

    @property
    def file(self) -> Path:
        """Where the study file lay on the machine that last ran the study."""
        return Path(*self.code_path[:1], Path(self.source).name)


class Catalog:
    """Every study of one database."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def names(self) -> list[str]:
        """Every study's name, the newest last."""
        statement = select(studies.c.name).order_by(studies.c.created_ms)
        return self._database.transact(lambda one: list(one.execute(statement).scalars()))

    def readable(self) -> tuple[list[StudyRecord], dict[str, UsageError]]:
        """Every study, the newest last, and why others cannot be read, by name."""
        statement = select(studies).order_by(studies.c.created_ms)
        rows = self._database.transact(lambda one: one.execute(statement).all())
        found, unreadable = [], {}
        for row in rows:
            try:
                found.append(_record(row._mapping))
            except UsageError as error:  # a newer tuner wrote it
                unreadable[row.name] = error
        return found, unreadable

    def find(self, name: str) -> StudyRecord | None:
        """The study of that name, or None."""
        statement = select(studies).where(studies.c.name == name)
        row = self._database.transact(lambda one: one.execute(statement).first())
        return None if row is None else _record(row._mapping)

    def get(self, name: str) -> StudyRecord:
        """The study of that name.

        Raises:
            UsageError: there is none, or something else than tuner has changed it.
        """
        record = self.find(name)
        if record is None:
            known = self.names()
            if self._is_submitted(name):
                raise UsageError(
                    f"study {name!r} has been submitted, and no worker has begun it yet; "
                    f"follow it with: tuner watch {name}, withdraw it with: tuner delete {name}"
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
        epoch_s: Rounds = NOTHING_MEASURED,
    ) -> StudyRecord:
        """Makes the study, or returns the one of that name that another driver has just made.

        Optuna's row comes first: our row says that the study is whole. A submission of that
        name has been answered by it.

        Args:
            spec: the study.
            source: its file's path, for messages.
            code_path: where modules that it names are.
            dataset: its data.
            submitted_ms: when the submission was made that this answers, if it answers one.
            overrides: what was changed of the file.
            epoch_s: by what its precision was chosen.

        Raises:
            RefusedError: the submission was withdrawn, or replaced by another, meanwhile.
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
            "wish": "run",
            "epoch_s": dict(epoch_s),
        }
        answered = delete(submissions).where(submissions.c.name == spec.name)
        if submitted_ms is not None:
            answered = answered.where(submissions.c.submitted_ms == submitted_ms)
        with suppress(IntegrityError), self._database.engine.begin() as connection:
            connection.execute(insert(studies).values(row))
            if not connection.execute(answered).rowcount and submitted_ms is not None:
                raise RefusedError(f"study {spec.name!r} was withdrawn or submitted anew meanwhile")
        return self.get(spec.name)

    def check_resumable(self, spec: StudySpec, source: str) -> StudyRecord:
        """The study of that name, once `spec` may go on with it; changes nothing.

        Raises:
            SpecError: the file now says something that would make it another study.
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
        """Takes over what may change between two runs, and where file and code lie.

        Raises:
            SpecError: the file now says something that would make it another study.
        """
        record = self.check_resumable(spec, source)
        folders = [str(folder) for folder in code_path]
        text = to_stored(settled(record.spec, spec))
        self._update(spec.name, spec=text, source=source, overrides=overrides, code_path=folders)
        return self.get(spec.name)

    def ask(self, name: str, wish: Wish) -> None:
        """Tells every driver of the study what is wanted; each notices within a second."""
        self._update(name, wish=wish)

    def wish(self, name: str) -> Wish:
        """What is wanted of the study's drivers: to stop, when it was deleted."""
        return self.orders(name)[0]

    def orders(self, name: str) -> tuple[Wish, str, str]:
        """What is wanted of the study's drivers, its file and its code's digest as they are now.

        The last two are empty if it was deleted.
        """
        columns = studies.c.wish, studies.c.spec, _DIGEST
        statement = select(*columns).where(studies.c.name == name)
        row = self._database.transact(lambda one: one.execute(statement).first())
        return ("stop", "", "") if row is None else (_wish(row.wish), row.spec, row.digest or "")

    def wanted(self, wish: Wish = "run") -> list[tuple[str, str, str]]:
        """Name, uid and file of the studies that drivers may join, the oldest first.

        A last line of the file tells its code from any other. With another `wish`, of those that
        are paused or stopped.
        """
        columns = studies.c.name, studies.c.uid, studies.c.spec, _DIGEST
        statement = select(*columns).where(studies.c.wish == wish).order_by(studies.c.created_ms)
        rows = self._database.transact(lambda one: one.execute(statement).all())
        return [(row.name, row.uid, f"{row.spec}\n# code {row.digest or ''}") for row in rows]

    def delete(self, name: str) -> None:
        """Removes the study's rows: ours first, since our row says that the study is whole."""
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
        """Takes over an Optuna study without trials, such as a killed deletion leaves."""
        if self.find(spec.name) is not None:
            return
        study = optuna.load_study(study_name=spec.name, storage=self._database.storage)
        if study.get_trials(deepcopy=False):
            raise RefusedError(
                f"study {spec.name!r}: Optuna has trials of that name that tuner did not "
                "make; choose another --name"
            )
        if study.direction.name.lower() != spec.objective.direction:
            optuna.delete_study(study_name=spec.name, storage=self._database.storage)
            self._create_optuna_study(spec)

    def _update(self, name: str, **values: Any) -> None:
        statement = update(studies).where(studies.c.name == name).values(**values)
        self._database.transact(lambda connection: connection.execute(statement))


def _record(row: Any) -> StudyRecord:
    # The first studies' texts leave the backend out: today's variable is not theirs.
    spec = parse_stored(row["spec"], row["name"], backend=row["backend"])
    if spec.name != row["name"] or not _UID.fullmatch(str(row["uid"])):  # they name folders
        raise UsageError(
            f"study {row['name']!r}: its row in the database, with the uid {row['uid']!r} and the "
            f"file of {spec.name!r}, is not what tuner wrote there; restore the database, or "
            f"remove the row from the table {studies.name}"
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
        wish=_wish(row["wish"]),
        epoch_s=column("epoch_s") or NOTHING_MEASURED,
    )


def _dataset(told: Any, study: str) -> DatasetInfo:
    """Without keys that only a newer version of tuner knows."""
    try:
        return DatasetInfo.model_validate(told, extra="ignore")
    except ValidationError as error:
        where = ", ".join(".".join(map(str, each["loc"])) for each in error.errors())
        raise UsageError(
            f"study {study!r}: another version of tuner described its data set, and this one "
            f"cannot read {where}; use that version, or delete the study with: tuner delete {study}"
        ) from error


def _wish(value: Any) -> Wish:
    return value if value in get_args(Wish) else "stop"
