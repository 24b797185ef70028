"""The versions of the user's code that trained a study's trials.

A study has one version until the user accepts another. A version is valid from one trial on. A
study created before versions were recorded stores its first one at its next run.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from sqlalchemy import Connection, delete, insert, select
from sqlalchemy.exc import IntegrityError

from tuner.clock import now_ms
from tuner.code import difference, digest
from tuner.errors import UsageError
from tuner.files import stays_inside
from tuner.storage.database import Database
from tuner.storage.tables import code, intact


@dataclass(frozen=True)
class CodeVersion:
    """The user's code, valid from one trial on."""

    from_trial: int
    digest: str
    """Empty if the study names no function of the user's."""
    files: Mapping[str, str]
    """The text of each file, by path."""


def insert_version(
    connection: Connection, study: str, files: Mapping[str, str], from_trial: int = 0
) -> None:
    """Inserts a version of a study's code, the text of each file by path, in a transaction.

    Raises:
        IntegrityError: the study has a version from this trial on.
    """
    version = insert(code).values(
        study=study,
        from_trial=from_trial,
        digest=digest(files),
        files=dict(files),
        at_ms=now_ms(),
    )
    connection.execute(version)


class CodeVersions:
    """The versions of one study's code."""

    def __init__(self, database: Database, study: str) -> None:
        self._database = database
        self._study = study

    def all(self) -> list[CodeVersion]:
        """Returns all versions, the oldest first. The last one is valid now.

        Raises:
            UsageError: they were changed in the database, not by tuner.
        """
        return self._database.transact(self._read)

    def that_trained(self, trial: int, digest: str) -> CodeVersion | None:
        """Returns the version that trained a trial; None if none was recorded.

        Args:
            trial: the trial's number.
            digest: the digest that is stored with its result; empty if none is.

        Raises:
            UsageError: as `all`.
        """
        fitting = (
            each
            for each in reversed(self.all())
            if (each.digest == digest if digest else each.from_trial <= trial)
        )
        return next(fitting, None)

    def check(self, files: Mapping[str, str]) -> None:
        """Checks that the code is the newest version. A study without a version accepts any.

        Raises:
            UsageError: the code differs; the message shows the difference.
        """
        known = self.all()
        if known and known[-1].digest != digest(files):
            raise UsageError(self._refusal(known[-1].files, files))

    def update(self, files: Mapping[str, str], *, trials: int, accepts: bool) -> bool:
        """Checks that the code is the newest version, or adds it as a new one.

        Args:
            files: the text of each file, by path.
            trials: how many trials have begun.
            accepts: whether changed code becomes a new version.

        Returns:
            Whether changed code was accepted.

        Raises:
            UsageError: the code differs and is not accepted.
        """
        known = self.all()
        if known and (known[-1].digest == digest(files) or not accepts):
            self.check(files)
            return False
        try:
            with self._database.engine.begin() as connection:
                self._write(connection, files, trials if known else 0, replaces=bool(known))
        except IntegrityError:  # another driver was faster
            return self.update(files, trials=trials, accepts=accepts)
        return bool(known)

    def _read(self, connection: Connection) -> list[CodeVersion]:
        mine = select(code).where(code.c.study == self._study).order_by(code.c.from_trial)
        rows = connection.execute(mine).all()
        return [
            CodeVersion(row.from_trial, row.digest, self._checked(row.files, row.digest))
            for row in rows
        ]

    def _checked(self, files: Mapping[str, str], stored_digest: str) -> Mapping[str, str]:
        """Returns the files if they are unchanged. They become artifacts in MLflow."""
        files = intact(files, f"study {self._study!r}: its code")
        if all(map(stays_inside, files)) and digest(files) == stored_digest:
            return files
        raise UsageError(
            f"study {self._study!r}: its code in the database is not what tuner wrote there: its "
            "digest differs, or a file is outside the study's folder; restore the database, "
            f"or delete the study with: tuner delete {self._study}"
        )

    def _write(
        self, connection: Connection, files: Mapping[str, str], from_trial: int, *, replaces: bool
    ) -> None:
        """Inserts a version. It replaces one that has trained no trial."""
        if replaces:
            same = code.c.study == self._study, code.c.from_trial == from_trial
            connection.execute(delete(code).where(*same))
        insert_version(connection, self._study, files, from_trial)

    def _refusal(self, before: Mapping[str, str], now: Mapping[str, str]) -> str:
        return (
            f"study {self._study!r}: its code has changed since its trials were trained\n"
            f"{difference(before, now)}\n"
            "restore the code, accept the change with: tuner run-study FILE --accept-new-code, or "
            "give the study another --name"
        )
