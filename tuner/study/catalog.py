"""The studies in the database: made, found, changed and deleted here."""

import time
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import optuna
from optuna.exceptions import DuplicatedStudyError
from sqlalchemy import delete, insert, select, update
from sqlalchemy.exc import IntegrityError

from tuner.datasets.store import DatasetInfo
from tuner.errors import RefusedError, SpecError, UsageError, unknown
from tuner.spec.reader import parse_study
from tuner.spec.resume import resume_problems
from tuner.spec.study import StudySpec
from tuner.spec.writer import to_yaml
from tuner.study.database import Database
from tuner.study.tables import studies


@dataclass(frozen=True)
class StudyRecord:
    """A study as the database knows it."""

    uid: str
    spec: StudySpec
    source: str
    """The study file's path, for messages."""
    code_path: tuple[Path, ...]
    dataset: DatasetInfo
    backend: str
    created_ms: int
    stop_requested: bool

    @property
    def name(self) -> str:
        """The study's name."""
        return self.spec.name


class Catalog:
    """Every study of one database."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def names(self) -> list[str]:
        """Every study's name, the newest last."""
        with self._database.engine.begin() as connection:
            statement = select(studies.c.name).order_by(studies.c.created_ms)
            return list(connection.execute(statement).scalars())

    def find(self, name: str) -> StudyRecord | None:
        """The study of that name, or None."""
        with self._database.engine.begin() as connection:
            row = connection.execute(select(studies).where(studies.c.name == name)).first()
        return None if row is None else _record(row._mapping)

    def get(self, name: str) -> StudyRecord:
        """The study of that name.

        Raises:
            UsageError: there is none.
        """
        record = self.find(name)
        if record is None:
            known = self.names()
            if not known:
                raise UsageError(f"no study {name!r}: this database holds none yet")
            raise UsageError(unknown("study", name, known))
        return record

    def create(
        self,
        spec: StudySpec,
        source: str,
        code_path: tuple[Path, ...],
        dataset: DatasetInfo,
        backend: str,
    ) -> StudyRecord:
        """Makes the study, or returns it when another driver has just made the same one.

        Optuna's row comes first: our row says that the study is whole.
        """
        self._create_optuna_study(spec)
        row = {
            "name": spec.name,
            "uid": uuid.uuid4().hex,
            "spec": to_yaml(spec),
            "source": source,
            "code_path": [str(folder) for folder in code_path],
            "dataset": dataset.model_dump(mode="json"),
            "backend": backend,
            "created_ms": time.time_ns() // 1_000_000,
            "stop_requested": False,
        }
        try:
            with self._database.engine.begin() as connection:
                connection.execute(insert(studies).values(row))
        except IntegrityError:
            return self.resume(spec, source, code_path)
        return self.get(spec.name)

    def resume(self, spec: StudySpec, source: str, code_path: tuple[Path, ...]) -> StudyRecord:
        """Takes over what may change between two runs, and clears a request to stop.

        That is what `resume_problems` lets change, and where the file and the code lie.

        Raises:
            SpecError: the file now says something that would make it another study.
        """
        record = self.get(spec.name)
        problems = resume_problems(record.spec, spec)
        if problems:
            raise SpecError(source, [*problems, "give it another name with --name, or delete it"])
        folders = [str(folder) for folder in code_path]
        self._update(
            spec.name, spec=to_yaml(spec), source=source, code_path=folders, stop_requested=False
        )
        return self.get(spec.name)

    def request_stop(self, name: str) -> None:
        """Asks every driver of the study to stop; each notices within a second."""
        self._update(name, stop_requested=True)

    def stop_requested(self, name: str) -> bool:
        """Whether someone asked for the study to stop, or has deleted it."""
        record = self.find(name)
        return record is None or record.stop_requested

    def delete(self, name: str) -> None:
        """Removes the study's rows, Optuna's and ours."""
        self._database.storage.delete_study(self._database.storage.get_study_id_from_name(name))
        with self._database.engine.begin() as connection:
            connection.execute(delete(studies).where(studies.c.name == name))

    def _create_optuna_study(self, spec: StudySpec) -> None:
        try:
            optuna.create_study(
                study_name=spec.name,
                storage=self._database.storage,
                direction=spec.objective.direction,
            )
        except DuplicatedStudyError:
            study = optuna.load_study(study_name=spec.name, storage=self._database.storage)
            if self.find(spec.name) is None and study.get_trials(deepcopy=False):
                raise RefusedError(
                    f"study {spec.name!r}: Optuna has trials of that name that tuner did not "
                    "make; choose another --name"
                ) from None

    def _update(self, name: str, **values: Any) -> None:
        with self._database.engine.begin() as connection:
            connection.execute(update(studies).where(studies.c.name == name).values(**values))


def _record(row: Any) -> StudyRecord:
    return StudyRecord(
        uid=row["uid"],
        spec=parse_study(row["spec"], f"study {row['name']}"),
        source=row["source"],
        code_path=tuple(Path(folder) for folder in row["code_path"]),
        dataset=DatasetInfo.model_validate(row["dataset"]),
        backend=row["backend"],
        created_ms=row["created_ms"],
        stop_requested=row["stop_requested"],
    )
