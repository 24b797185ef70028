"""Study files that wait for a worker to begin them."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from shlex import quote
from typing import Any

from sqlalchemy import Connection, delete, insert, select, update

from tuner.clock import now_ms
from tuner.errors import UsageError
from tuner.home import Home
from tuner.spec.study_spec import StudySpec
from tuner.spec.text.reader import parse_stored
from tuner.spec.text.writer import to_stored
from tuner.storage.database import Database
from tuner.storage.opening import open_database
from tuner.storage.studies import Catalog
from tuner.storage.tables import Damaged, studies, submissions
from tuner.study.study_file import StudyFile


def submit_study(file: StudyFile, home: Home) -> bool:
    """Submits the study, or lets one that has begun go on; whether it is new.

    Its data and its network are first looked at by the worker that begins it, where they are.

    Raises:
        SpecError: the file cannot be run, or differs from the study of that name.
        UnavailableError: the database does not answer.
    """
    file.check()
    with open_database(home) as database:
        if Submissions(database).put(file):
            return True
        catalog = Catalog(database)
        catalog.resume(file.spec, file.source, file.code_path, file.overrides)
        catalog.ask(file.spec.name, "run")
        return False


_LOOK_S = 1.0


@dataclass(frozen=True)
class Submission:
    """A study that has no row of its own yet: its first driver makes it."""

    name: str
    text: str
    """The study file as it was read, as the database keeps it."""
    source: str
    """The file's path where it was submitted, for messages."""
    overrides: tuple[str, ...]
    """What was changed of the file."""
    code_path: tuple[Path, ...]
    submitted_ms: int
    refusal: str
    """Why the worker that tried last could not begin it; empty before one did."""
    damaged: str = ""
    """What of it a disk has damaged; empty if nothing."""

    def read(self) -> StudySpec:
        """The study.

        Raises:
            SpecError: another version of tuner wrote it.
            UsageError: it is the file of a study with another name, or damaged.
        """
        if self.damaged:
            raise UsageError(
                f"submission {self.name!r}: its {self.damaged} in the database is no JSON, so not "
                f"what tuner wrote there; withdraw it with: tuner delete {quote(self.name)}"
            )
        spec = parse_stored(self.text, self.name)
        if spec.name != self.name:
            raise UsageError(
                f"submission {self.name!r}: holds the file of {spec.name!r}, which tuner did not "
                f"write there; withdraw it with: tuner delete {quote(self.name)}"
            )
        return spec


class Submissions:
    """Every submission of one database; creating the study removes it."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def put(self, file: StudyFile) -> bool:
        """Submits the study, in place of one of that name that still waits.

        False, and nothing is changed, when the study has begun.
        """
        name = file.spec.name
        row = {
            "name": name,
            "spec": to_stored(file.spec),
            "source": file.source,
            "overrides": file.overrides,
            "code_path": [str(folder) for folder in file.code_path],
            "submitted_ms": now_ms(),
            "refusal": "",
        }

        def replace(connection: Connection) -> bool:
            begun = select(studies.c.name).where(studies.c.name == name)
            if connection.execute(begun).first() is not None:
                return False
            connection.execute(delete(submissions).where(submissions.c.name == name))
            connection.execute(insert(submissions).values(row))
            return True

        return self._database.transact(replace)

    def all(self) -> list[Submission]:
        """The oldest first."""
        statement = select(submissions).order_by(submissions.c.submitted_ms)
        rows = self._database.transact(lambda one: one.execute(statement).all())
        return [_submission(row._mapping) for row in rows]

    def find(self, name: str) -> Submission | None:
        """The one of that name, or None."""
        return next((each for each in self.all() if each.name == name), None)

    def refuse(self, name: str, why: str) -> None:
        """Notes why a worker could not begin it; another one may."""
        statement = update(submissions).where(submissions.c.name == name).values(refusal=why)
        self._database.transact(lambda one: one.execute(statement))

    def withdraw(self, name: str) -> bool:
        """Removes it; whether it was there."""
        statement = delete(submissions).where(submissions.c.name == name)
        return bool(self._database.transact(lambda one: one.execute(statement).rowcount))


def withdraw(home: Home, name: str) -> bool:
    """Takes a submission back that no worker has begun; whether there was one."""
    with open_database(home) as database:
        return Submissions(database).withdraw(name)


def wait_begun(home: Home, name: str, say: Callable[[str], None]) -> None:
    """Waits as long as the study has been submitted and no worker has begun it."""
    with open_database(home) as database:
        submissions, told = Submissions(database), ""
        catalog = Catalog(database)
        while (waiting := submissions.find(name)) and catalog.find(name) is None:
            text = f"{name} waits for a worker to begin it"
            if waiting.refusal:
                text += f"; the last one could not: {waiting.refusal}"
            if text != told:
                say(text)
            told = text
            time.sleep(_LOOK_S)


def _submission(row: Any) -> Submission:
    damaged = [name for name in ("overrides", "code_path") if isinstance(row[name], Damaged)]
    overrides, code_path = ((), ()) if damaged else (row["overrides"], row["code_path"])
    return Submission(
        name=row["name"],
        text=row["spec"],
        source=row["source"],
        overrides=tuple(overrides),
        code_path=tuple(map(Path, code_path)),
        submitted_ms=row["submitted_ms"],
        refusal=row["refusal"],
        damaged=" and ".join(damaged),
    )
