"""Submitted study files, which wait for a worker to start them."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
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
from tuner.storage.studies import Catalog, DesiredState
from tuner.storage.tables import Damaged, studies, submissions
from tuner.study.study_file import StudyFile
from tuner.words import command

_POLL_S = 1.0


@dataclass(frozen=True)
class Submission:
    """A submitted study. Its first driver creates the study's own row."""

    name: str
    text: str
    """The study file, as stored in the database."""
    source: str
    """The file's path where it was submitted, for messages."""
    overrides: tuple[str, ...]
    """The overrides of the file (`--set`), as typed."""
    code_path: tuple[Path, ...]
    submitted_ms: int
    refusal: str
    """Why the last worker could not start it; empty if none has tried."""
    damaged: str = ""
    """The names of its damaged columns; empty if there are none."""

    def read(self) -> StudySpec:
        """Returns the study.

        Raises:
            SpecError: this version of tuner cannot read the file.
            UsageError: the submission is damaged, or its file has another study's name.
        """
        if self.damaged:
            raise UsageError(
                f"submission {self.name!r}: its {self.damaged} in the database is no JSON, so "
                f"tuner did not write it; withdraw it with: {command('delete', self.name)}"
            )
        spec = parse_stored(self.text, self.name)
        if spec.name != self.name:
            raise UsageError(
                f"submission {self.name!r}: its file is that of the study {spec.name!r}, which "
                f"tuner did not write; withdraw it with: {command('delete', self.name)}"
            )
        return spec


class Submissions:
    """The submissions of one database. Creating the study deletes its submission."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def put(self, file: StudyFile) -> bool:
        """Submits the study. Replaces a waiting submission with the same name.

        Returns:
            False if the study exists already; then nothing is changed.
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
            existing = select(studies.c.name).where(studies.c.name == name)
            if connection.execute(existing).first() is not None:
                return False
            connection.execute(delete(submissions).where(submissions.c.name == name))
            connection.execute(insert(submissions).values(row))
            return True

        return self._database.transact(replace)

    def all(self) -> list[Submission]:
        """Returns every submission, the oldest first."""
        statement = select(submissions).order_by(submissions.c.submitted_ms)
        rows = self._database.transact(lambda one: one.execute(statement).all())
        return [_submission(row._mapping) for row in rows]

    def find(self, name: str) -> Submission | None:
        """Returns the submission with this name, or None."""
        return next((each for each in self.all() if each.name == name), None)

    def refuse(self, name: str, why: str) -> None:
        """Stores why a worker could not start the study. Another worker may."""
        statement = update(submissions).where(submissions.c.name == name).values(refusal=why)
        self._database.transact(lambda one: one.execute(statement))

    def withdraw(self, name: str) -> bool:
        """Deletes the submission with this name. Returns whether there was one."""
        statement = delete(submissions).where(submissions.c.name == name)
        return bool(self._database.transact(lambda one: one.execute(statement).rowcount))


def submit_study(file: StudyFile, home: Home) -> bool:
    """Submits a study, or resumes it if it exists. Returns whether it is new.

    The worker that starts it checks its data and its network.

    Raises:
        SpecError: the file is invalid, or makes it another study than the one with its name.
        ModelError: there is no such model.
        UsageError: a folder's path is not valid text, or the stored study cannot be read.
        UnavailableError: the database does not answer.
    """
    file.check()
    with open_database(home) as database:
        catalog = Catalog(database)
        if catalog.find(file.spec.name) is None:
            file.check_new()
        if Submissions(database).put(file):
            return True
        catalog.resume(file.spec, file.source, file.code_path, file.overrides)
        catalog.set_desired_state(file.spec.name, DesiredState.RUN)
        return False


def withdraw(home: Home, name: str) -> bool:
    """Deletes a submission that no worker has started. Returns whether there was one.

    Raises:
        UnavailableError: the database does not answer.
    """
    with open_database(home) as database:
        return Submissions(database).withdraw(name)


def wait_until_started(home: Home, name: str, say: Callable[[str], None]) -> None:
    """Waits until a worker has started the submitted study, or the submission is gone.

    Raises:
        UnavailableError: the database does not answer.
    """
    with open_database(home) as database:
        submissions, said = Submissions(database), ""
        catalog = Catalog(database)
        while (waiting := submissions.find(name)) and catalog.find(name) is None:
            text = f"{name} waits for a worker to start it"
            if waiting.refusal:
                text += f"; the last one could not: {waiting.refusal}"
            if text != said:
                say(text)
            said = text
            time.sleep(_POLL_S)


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
