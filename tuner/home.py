"""Where tuner keeps its state on this machine: one folder, laid out in one place.

HOME/id                                 what tells this folder from every other
    /tuner.db                           studies, unless TUNER_STORAGE_URL names a database
    /mlflow.db  mlartifacts/            the local tracking store, unless a server is named
    /datasets/<name>-<digest>/          prepared arrays
    /models/                            verified copies of model files
    /packings.json  precisions.json     what was fastest on this machine
    /studies/<study>/uid                which study of that name
                    /code               the digest of the code that its checkpoints are of
                    /parent/            its spool
                    /attempts/<slot>-<attempt>/   one try of a trial: spool, log, model
                    /trainers/          what trainers printed outside of trials
                    /shipper.log        what the shipper had to say
"""

import os
import uuid
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from tuner.errors import UnavailableError, check_text


@dataclass(frozen=True)
class Home:
    """The state folder. An absolute path."""

    root: Path

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] | None = None) -> "Home":
        """`TUNER_HOME`, or `.tuner` in the current folder.

        Raises:
            UsageError: the path is no text.
        """
        values = os.environ if environment is None else environment
        root = Path(values.get("TUNER_HOME") or ".tuner").absolute()
        check_text(root, "set TUNER_HOME to another folder")
        return cls(root)

    @property
    def uid(self) -> str:
        """What tells this folder from every other, wherever it is mounted."""
        path = self.root / "id"
        if not path.exists():
            mine = path.with_name(f"partial-id-{os.getpid()}")
            mine.write_text(uuid.uuid4().hex)
            with suppress(FileExistsError):  # another process was quicker
                os.link(mine, path)
            mine.unlink()
        return path.read_text()

    @property
    def datasets(self) -> Path:
        """The folder of prepared data sets."""
        return self.root / "datasets"

    @property
    def database(self) -> Path:
        """The default database."""
        return self.root / "tuner.db"

    def studies(self) -> list[str]:
        """The studies that this folder holds something of."""
        folder = self.root / "studies"
        return sorted(each.name for each in folder.iterdir()) if folder.exists() else []

    def study(self, name: str) -> Path:
        """Everything that this machine holds of one study."""
        return self.root / "studies" / name

    def devote(self, name: str, uid: str) -> None:
        """Makes the study's folder that of the study with this uid.

        What another one of the same name has left, deleted from elsewhere or of another
        database, is set aside below it, and fetched back when that one's turn comes again.
        """
        before = self.devoted_to(name)
        if before == uid:
            return
        folder = self.study(name)
        if before:
            self._move_spools(folder, folder / f"former-{before}")
            self._move_spools(folder / f"former-{uid}", folder)
        folder.mkdir(parents=True, exist_ok=True)
        partial = folder / "partial-uid"
        partial.write_text(uid)
        partial.replace(folder / "uid")

    def _move_spools(self, source: Path, target: Path) -> None:
        target.mkdir(exist_ok=True)
        for part in ("parent", "attempts"):
            if (source / part).exists():
                (source / part).rename(target / part)

    def devoted_to(self, name: str) -> str:
        """The uid of the study whose folder it is; empty where nobody has said."""
        mark = self.study(name) / "uid"
        return mark.read_text() if mark.exists() else ""

    def parent(self, name: str) -> Path:
        """The folder of the study's own spool."""
        return self.study(name) / "parent"

    def attempts(self, name: str) -> Path:
        """Below it, a folder for each attempt."""
        return self.study(name) / "attempts"

    def attempt(self, name: str, slot: int, number: int) -> Path:
        """The folder of one attempt."""
        return self.attempts(name) / f"{slot}-{number}"

    def trainer_logs(self, name: str) -> Path:
        """What trainers printed outside of trials."""
        return self.study(name) / "trainers"

    @property
    def packings(self) -> Path:
        """How many trainers were fastest on this machine, by workload."""
        return self.root / "packings.json"

    @property
    def precisions(self) -> Path:
        """How long an epoch took on this machine in each precision, by data and network."""
        return self.root / "precisions.json"

    def create(self) -> None:
        """Makes the folder.

        Raises:
            UnavailableError: it cannot be made or written.
        """
        try:
            self.root.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UnavailableError(
                f"{self.root}: cannot be made: {error.strerror}; set TUNER_HOME to a folder "
                "that can be written"
            ) from error
        if not os.access(self.root, os.W_OK):
            raise UnavailableError(
                f"{self.root}: cannot be written; set TUNER_HOME to a folder that can"
            )
