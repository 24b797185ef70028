"""The user's code that a study's trials were trained with: one version, until another is accepted.

A version holds from a trial on. A study of before this was written down takes the code of its
next run for its first version.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from sqlalchemy import Connection, delete, insert, select
from sqlalchemy.exc import IntegrityError

from tuner.clock import now_ms
from tuner.code import difference, digest
from tuner.errors import UsageError
from tuner.files import stays_below
from tuner.storage.database import Database
from tuner.storage.tables import code, intact


@dataclass(frozen=True)
class CodeVersion:
    """What trained the trials from one on."""

    from_trial: int
    digest: str
    """Empty where the study names no function of the user's."""
    files: Mapping[str, str]
    """Text by path."""


class CodeVersions:
    """The versions of one study's code."""

    def __init__(self, database: Database, study: str) -> None:
        self._database = database
        self._study = study

    def all(self) -> list[CodeVersion]:
        """The oldest first; the newest holds.

        Raises:
            UsageError: something else than tuner changed them in the database.
        """
        return self._database.transact(self._read)

    def check(self, files: Mapping[str, str]) -> None:
        """Refuses other code than the newest version; a study without one takes any.

        Raises:
            UsageError: shows the difference.
        """
        known = self.all()
        if known and known[-1].digest != digest(files):
            raise UsageError(self._refusal(known[-1].files, files))

    def settle(self, files: Mapping[str, str], *, trials: int, accepts: bool) -> bool:
        """Makes the code the study's: it is already, it is the first, or it is accepted.

        Args:
            files: text by path.
            trials: how many have begun.
            accepts: whether other code may take the place of the newest version.

        Returns:
            Whether it is new.

        Raises:
            UsageError: it is other code.
        """
        known = self.all()
        if known and (known[-1].digest == digest(files) or not accepts):
            self.check(files)
            return False
        try:
            with self._database.engine.begin() as connection:
                self._write(connection, files, trials if known else 0, replaces=bool(known))
        except IntegrityError:  # another driver was quicker
            return self.settle(files, trials=trials, accepts=accepts)
        return bool(known)

    def _read(self, connection: Connection) -> list[CodeVersion]:
        mine = select(code).where(code.c.study == self._study).order_by(code.c.from_trial)
        rows = connection.execute(mine).all()
        return [
            CodeVersion(row.from_trial, row.digest, self._checked(row.files, row.digest))
            for row in rows
        ]

    def _checked(self, files: Mapping[str, str], told: str) -> Mapping[str, str]:
        """The files, which MLflow gets as artifacts, if they are what tuner wrote there."""
        files = intact(files, f"study {self._study!r}: its code")
        if all(map(stays_below, files)) and digest(files) == told:
            return files
        raise UsageError(
            f"study {self._study!r}: its code in the database is not what tuner wrote there: its "
            "digest differs, or a file lies outside of the study's folder; restore the database, "
            f"or delete the study with: tuner delete {self._study}"
        )

    def _write(
        self, connection: Connection, files: Mapping[str, str], from_trial: int, *, replaces: bool
    ) -> None:
        """A version that has trained nothing gives way."""
        if replaces:
            same = code.c.study == self._study, code.c.from_trial == from_trial
            connection.execute(delete(code).where(*same))
        version = insert(code).values(
            study=self._study,
            from_trial=from_trial,
            digest=digest(files),
            files=dict(files),
            at_ms=now_ms(),
        )
        connection.execute(version)

    def _refusal(self, before: Mapping[str, str], now: Mapping[str, str]) -> str:
        return (
            f"study {self._study!r}: its code has changed since its trials were trained\n"
            f"{difference(before, now)}\n"
            "put the code back as it was, go on with the new one by tuner run-study FILE "
            "--accept-new-code, or give the study another --name"
        )
