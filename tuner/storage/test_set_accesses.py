"""The record of accesses to test sets: each is written before the test rows are opened.

It holds the accesses of all studies of a database. It outlives the studies, since test rows that
were seen stay seen.
"""

import socket
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, cast

from sqlalchemy import Connection, Row, insert, select, update

from tuner.account import user
from tuner.clock import now_ms
from tuner.errors import UsageError, unknown
from tuner.storage.database import Database
from tuner.storage.studies import Catalog, StudyRecord
from tuner.storage.tables import intact, studies, test_set_accesses

_LONGEST_NAME = 255
"""Characters that are kept of the names of user and host."""
_SHORTEST_DIGEST = 6
"""Fewer digits are no digest but a name."""


@dataclass(frozen=True)
class TestSetAccess:
    """One access to the test rows of a data set. The oldest records lack some fields."""

    number: int
    """Which access to these test rows it is, from 1, over all studies of the database."""
    models: int
    """How many different models had been scored on these rows by then, with its own."""
    dataset: str | None
    """Digest of the data set."""
    dataset_name: str | None
    """The data set's name in the study."""
    study: str
    study_uid: str
    """The id that distinguishes the study from others of its name."""
    deleted: bool
    """Whether the study has been deleted since."""
    trial: int
    """The trial that the access is for: its own scores, or those of the champion beside it."""
    command: str
    """The command that needs it; `promote: champion` is for the champion's scores."""
    user: str | None
    """The user's name, or number if there is no name."""
    host: str | None
    at_ms: int
    model_sha256: str | None
    """Hash of the model file that was scored."""
    evidence: dict[str, float] | None
    """The scores by name; None if the access did not complete."""


class TestSetAccesses:
    """The accesses that one study makes to its test set."""

    def __init__(self, database: Database, study: StudyRecord) -> None:
        self._database = database
        self._study = study

    def all(self) -> list[TestSetAccess]:
        """Returns every access of the study, the oldest first."""
        found = _numbered_rows(self._database)
        return [each.access() for each in found if each.row.study_uid == self._study.uid]

    def begin(self, trial: int, command: str, dataset: str, model_sha256: str) -> int:
        """Records an access before it happens, and returns its id.

        Args:
            trial: the trial that the access is for.
            command: the command that needs it.
            dataset: digest of the data set whose test rows are opened.
            model_sha256: hash of the model file that is scored on them.
        """
        values = {
            "study": self._study.name,
            "study_uid": self._study.uid,
            "trial": trial,
            "command": command,
            "user_name": user()[:_LONGEST_NAME],
            "host": socket.gethostname()[:_LONGEST_NAME],
            "at_ms": now_ms(),
            "dataset": dataset,
            "dataset_name": self._study.dataset.name,
            "model_sha256": model_sha256,
        }
        with self._database.engine.begin() as connection:
            _wait_for_turn(connection)
            inserted = connection.execute(insert(test_set_accesses).values(values))
            key: Any = inserted.inserted_primary_key
        return int(key[0])

    def complete(self, access: int, evidence: dict[str, float]) -> None:
        """Adds the scores to an access, by the id that `begin` returned."""
        statement = update(test_set_accesses).where(test_set_accesses.c.id == access)
        with self._database.engine.begin() as connection:
            connection.execute(statement.values(evidence=evidence))

    def newest(self, dataset: str, model_sha256: str) -> TestSetAccess | None:
        """Returns the newest access of this model file to these test rows, of any study.

        None if the database has none.
        """
        found = self._of(dataset, model_sha256)
        return found[-1].access() if found else None

    def _of(self, dataset: str, model_sha256: str) -> "list[_NumberedRow]":
        found = _numbered_rows(self._database)
        wanted = dataset, model_sha256
        return [each for each in found if (each.row.dataset, each.row.model_sha256) == wanted]


def find_accesses(database: Database, wanted: str | None = None) -> list[TestSetAccess]:
    """Returns the accesses of all studies, deleted ones too, the oldest first.

    Args:
        database: where they are recorded.
        wanted: the data set: its name, the beginning of its digest, or a study that uses it. All
            data sets by default.

    Raises:
        UsageError: there is no such data set or study, or a record is damaged.
    """
    found = [each.access() for each in _numbered_rows(database)]
    if wanted is None:
        return found
    records, _ = Catalog(database).readable()
    known = {(each.dataset or "", each.dataset_name or "", each.study) for each in found}
    known |= {(each.dataset.digest, each.dataset.name, each.name) for each in records}
    chosen = {digest for digest, *names in known if wanted in names or _begins(digest, wanted)}
    if not known:
        raise UsageError(f"no data set or study {wanted!r}: this database holds none yet")
    if not chosen:
        names = {name for _, *names in known for name in names if name}
        raise UsageError(unknown("data set or study", wanted, names))
    return [each for each in found if (each.dataset or "") in chosen]


def _begins(digest: str, wanted: str) -> bool:
    return len(wanted) >= _SHORTEST_DIGEST and digest.startswith(wanted)


class _NumberedRow(NamedTuple):
    """A row of the record. Its scores are read on request, since they may be damaged."""

    number: int
    models: int
    row: Row[Any]

    def access(self) -> TestSetAccess:
        """Returns the access.

        Raises:
            UsageError: its scores are damaged.
        """
        row = self.row
        return TestSetAccess(
            number=self.number,
            models=self.models,
            dataset=row.dataset,
            dataset_name=row.dataset_name,
            study=row.study,
            study_uid=row.study_uid,
            deleted=row.uid is None,
            trial=row.trial,
            command=row.command,
            user=row.user_name,
            host=row.host,
            at_ms=row.at_ms,
            model_sha256=row.model_sha256,
            evidence=self.evidence(),
        )

    def evidence(self) -> dict[str, float] | None:
        """Returns the scores."""
        scores = intact(self.row.evidence, "the scores of an access to a test set")
        return cast("dict[str, float] | None", scores)


def _numbered_rows(database: Database) -> Iterator[_NumberedRow]:
    """Yields each row with its number among those of its data set, and the models so far."""
    scored: dict[str | None, Counter[str]] = defaultdict(Counter)
    for row in _rows(database):
        models = scored[row.dataset]
        # The oldest rows lack the hash; a trial has one model.
        models[row.model_sha256 or f"{row.study_uid} {row.trial}"] += 1
        yield _NumberedRow(models.total(), len(models), row)


def _rows(database: Database) -> Sequence[Row[Any]]:
    """The rows of all studies, the oldest first, each with its study's uid if that is there."""
    statement = (
        select(test_set_accesses, studies.c.uid)
        .outerjoin(studies, studies.c.uid == test_set_accesses.c.study_uid)
        .order_by(test_set_accesses.c.id)
    )
    with database.engine.begin() as connection:
        return connection.execute(statement).all()


def _wait_for_turn(connection: Connection) -> None:
    """Lets one access be recorded at a time, so that numbers are final. SQLite does so anyway."""
    if connection.dialect.name == "postgresql":
        lock = f"LOCK TABLE {test_set_accesses.name} IN SHARE ROW EXCLUSIVE MODE"
        connection.exec_driver_sql(lock)
