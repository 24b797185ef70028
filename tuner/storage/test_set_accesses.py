"""The accesses to test sets: each is recorded before the test set is opened."""

from dataclasses import dataclass
from typing import Any

from sqlalchemy import insert, select, update

from tuner.clock import now_ms
from tuner.storage.database import Database
from tuner.storage.tables import intact, test_set_accesses


@dataclass(frozen=True)
class TestSetAccess:
    """One access to the test set."""

    trial: int
    """The trial that the access is for: its own scores, or those of the champion beside it."""
    command: str
    at_ms: int
    evidence: dict[str, float] | None
    """The scores by name; None if the access did not complete."""
    dataset: str | None
    """Digest of the data set. This and the next are None in records of older versions."""
    model_sha256: str | None
    """Hash of the model file that was scored."""


class TestSetAccesses:
    """The accesses to one study's test set."""

    def __init__(self, database: Database, study: str) -> None:
        self._engine = database.engine
        self._study = study

    def all(self) -> list[TestSetAccess]:
        """Returns every access, the oldest first."""
        statement = select(test_set_accesses).where(test_set_accesses.c.study == self._study)
        with self._engine.begin() as connection:
            rows = connection.execute(statement.order_by(test_set_accesses.c.id)).all()
        return [
            TestSetAccess(
                row.trial,
                row.command,
                row.at_ms,
                _intact(row.evidence),
                row.dataset,
                row.model_sha256,
            )
            for row in rows
        ]

    def begin(self, trial: int, command: str, dataset: str, model_sha256: str) -> int:
        """Records an access before it happens, and returns its id.

        Args:
            trial: the trial that the access is for.
            command: the command that needs it.
            dataset: digest of the data set whose test rows are opened.
            model_sha256: hash of the model file that is scored on them.
        """
        values = {
            "study": self._study,
            "trial": trial,
            "command": command,
            "at_ms": now_ms(),
            "dataset": dataset,
            "model_sha256": model_sha256,
        }
        statement = insert(test_set_accesses).values(values)
        with self._engine.begin() as connection:
            key: Any = connection.execute(statement).inserted_primary_key
        return int(key[0])

    def complete(self, access: int, evidence: dict[str, float]) -> None:
        """Adds the scores to an access, by the id that `begin` returned."""
        statement = update(test_set_accesses).where(test_set_accesses.c.id == access)
        with self._engine.begin() as connection:
            connection.execute(statement.values(evidence=evidence))


def _intact(evidence: Any) -> dict[str, float] | None:
    found: dict[str, float] | None = intact(evidence, "the scores of an access to a test set")
    return found
