"""Counts the looks at a study's test set: each is written down before the set is opened."""

import time
from dataclasses import dataclass
from typing import Any

from sqlalchemy import insert, select, update

from tuner.study.database import Database
from tuner.study.tables import looks


@dataclass(frozen=True)
class Look:
    """One opening of the test set; `evidence` is None when it never told anything."""

    trial: int
    command: str
    at_ms: int
    evidence: dict[str, float] | None


class Looks:
    """The looks at one study's test set."""

    def __init__(self, database: Database, study: str) -> None:
        self._engine = database.engine
        self._study = study

    def all(self) -> list[Look]:
        """Every look, the first one first."""
        statement = select(looks).where(looks.c.study == self._study).order_by(looks.c.id)
        with self._engine.begin() as connection:
            rows = connection.execute(statement).all()
        return [Look(row.trial, row.command, row.at_ms, row.evidence) for row in rows]

    def begin(self, trial: int, command: str) -> int:
        """Writes down that the test set is about to be opened, and returns the look's number."""
        values = {
            "study": self._study,
            "trial": trial,
            "command": command,
            "at_ms": time.time_ns() // 1_000_000,
        }
        with self._engine.begin() as connection:
            key: Any = connection.execute(insert(looks).values(values)).inserted_primary_key
        return int(key[0])

    def told(self, look: int, evidence: dict[str, float]) -> None:
        """Adds what the look told."""
        with self._engine.begin() as connection:
            connection.execute(update(looks).where(looks.c.id == look).values(evidence=evidence))
