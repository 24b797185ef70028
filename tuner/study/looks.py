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

    def counted(self, trial: int, command: str) -> "CountedLook":
        """A look that `command` is about to take at what `trial` does on the test set."""
        return CountedLook(self, trial, command)

    def insert(self, trial: int, command: str) -> int:
        """Writes down a look and returns its number."""
        values = {
            "study": self._study,
            "trial": trial,
            "command": command,
            "at_ms": time.time_ns() // 1_000_000,
        }
        with self._engine.begin() as connection:
            key: Any = connection.execute(insert(looks).values(values)).inserted_primary_key
        return int(key[0])

    def complete(self, look: int, evidence: dict[str, float]) -> None:
        """Adds what the look told."""
        with self._engine.begin() as connection:
            connection.execute(update(looks).where(looks.c.id == look).values(evidence=evidence))


class CountedLook:
    """One look: begun right before the test set is opened, told when it has been judged."""

    def __init__(self, looks: Looks, trial: int, command: str) -> None:
        self._looks = looks
        self._trial = trial
        self._command = command
        self._number: int | None = None

    def begin(self) -> None:
        """Writes the look down."""
        self._number = self._looks.insert(self._trial, self._command)

    def told(self, evidence: dict[str, float]) -> None:
        """Adds what it told; nothing when it never began."""
        if self._number is not None:
            self._looks.complete(self._number, evidence)
