"""Counts the looks at test sets: each is written down before the set is opened."""

from dataclasses import dataclass
from typing import Any

from sqlalchemy import insert, select, update

from tuner.clock import now_ms
from tuner.storage.database import Database
from tuner.storage.tables import intact, looks


@dataclass(frozen=True)
class TestSetAccess:
    """One opening of the test set; `evidence` is None when it never told anything."""

    trial: int
    """For whose sake: the trial itself was scored, or the champion that it is held against."""
    command: str
    at_ms: int
    evidence: dict[str, float] | None
    dataset: str | None
    """Digest of the data set; None, as the next, in what older versions wrote."""
    model_sha256: str | None
    """Of the file that was scored."""


class TestSetAccesses:
    """The looks at one study's test set."""

    def __init__(self, database: Database, study: str) -> None:
        self._engine = database.engine
        self._study = study

    def all(self) -> list[TestSetAccess]:
        """Every look, the first one first."""
        statement = select(looks).where(looks.c.study == self._study).order_by(looks.c.id)
        with self._engine.begin() as connection:
            rows = connection.execute(statement).all()
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
        """Writes down a look that is about to be taken, and returns its number.

        Args:
            trial: for whose sake.
            command: which command takes it.
            dataset: digest of the data set whose test rows are opened.
            model_sha256: of the model file that is scored on them.
        """
        values = {
            "study": self._study,
            "trial": trial,
            "command": command,
            "at_ms": now_ms(),
            "dataset": dataset,
            "model_sha256": model_sha256,
        }
        with self._engine.begin() as connection:
            key: Any = connection.execute(insert(looks).values(values)).inserted_primary_key
        return int(key[0])

    def complete(self, look: int, evidence: dict[str, float]) -> None:
        """Adds what the look told."""
        with self._engine.begin() as connection:
            connection.execute(update(looks).where(looks.c.id == look).values(evidence=evidence))

    def told(self, dataset: str, model_sha256: str) -> dict[str, float] | None:
        """What the newest look of any study here told of this model file on these test rows."""
        statement = (
            select(looks.c.evidence)
            .where(looks.c.dataset == dataset, looks.c.model_sha256 == model_sha256)
            .order_by(looks.c.id.desc())
        )
        with self._engine.begin() as connection:
            told = connection.execute(statement).scalars().all()
        return next((_intact(evidence) for evidence in told if evidence), None)


def _intact(evidence: Any) -> dict[str, float] | None:
    found: dict[str, float] | None = intact(evidence, "what a look at a test set told")
    return found
