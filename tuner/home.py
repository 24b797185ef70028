"""Where tuner keeps its state on this machine: one folder, laid out in one place.

HOME/id                                 what tells this folder from every other
    /tuner.db                           studies, unless TUNER_STORAGE_URL names a database
    /mlflow.db  mlartifacts/            the local tracking store, unless a server is named
    /datasets/<name>-<digest>/          prepared arrays
    /models/                            verified copies of model files
    /packings.json  precisions.json     what was fastest on this machine
    /studies/<study>/uid                which study has that name now
                    /trainers/          what trainers printed outside of trials
                    /<uid>/             a study that has it or had it
                          /code         the digest of the code that its checkpoints are of
                          /parent/      its spool
                          /attempts/<slot>-<attempt>/   one try of a trial: spool, log, model
                          /shipper.log  what the shipper had to say
"""

import os
import re
import shutil
import uuid
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from tuner.errors import UnavailableError, UsageError, check_text
from tuner.files import exclusive, is_folder_name, replacing

_UID = re.compile("[0-9a-f]{32}")
_PARTS = ("parent", "attempts")
"""Of a study, what an earlier version kept one level higher."""


@dataclass(frozen=True)
class Home:
    """The state folder. An absolute path."""

    root: Path
    _devoted: dict[str, str] = field(default_factory=dict, repr=False, compare=False)
    """The studies that this process works on, by name: it goes on with them, come what may."""

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
        """What tells this folder from every other, wherever it is mounted.

        A copy of the folder is another one: the file names the inode of the folder that it was
        written for. On a disk that was cloned as a whole both are the same. A file that is damaged
        is written anew, which makes the folder another one too.
        """
        path, inode = self.root / "id", str(self.root.stat().st_ino)
        uid, of = _identity(path) or _identified(path, inode)
        return uid if of == inode else uuid.uuid5(uuid.UUID(uid), inode).hex

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
        found = (each.name for each in folder.iterdir()) if folder.exists() else iter(())
        return sorted(filter(is_folder_name, found))

    def study(self, name: str) -> Path:
        """Everything that this machine holds of the studies that have had this name.

        Raises:
            UsageError: it cannot be the name of a folder; so say all that take a study's name.
        """
        return _inside(self.root / "studies", name)

    def devoted(self, name: str) -> Path:
        """The folder of the study that has the name now.

        One that an earlier version of tuner left lies a level higher until it is devoted. A move
        that was begun and cut short is finished here first, so that all of it is in one place.
        Where somebody has removed the mark, the process that made it makes it again.
        """
        folder = self.study(name)
        if name in self._devoted and not self.devoted_to(name):
            self.devote(name, self._devoted[name])
        uid = self.devoted_to(name)
        if not uid or not any((folder / each).exists() for each in (uid, f"former-{uid}")):
            return folder
        self._part(name, uid)
        return folder / uid

    def formers(self, name: str) -> list[Path]:
        """The folders of studies that had the name before: deleted, or of another database."""
        folders = [each for each in self.study(name).glob("*") if each.is_dir()]
        others = (self.devoted_to(name), "trainers", *_PARTS)
        return sorted(each for each in folders if each.name not in others)

    def devote(self, name: str, uid: str) -> None:
        """Makes the name stand for the study with this uid, in one step.

        Each study keeps a folder of its own, so nothing is moved but what an earlier version
        of tuner left; a process that is killed in between leaves the rest to the next one that
        asks for the folder.
        """
        folder = self.study(name)
        _inside(folder, uid).mkdir(parents=True, exist_ok=True)
        self._devoted[name] = uid
        if not self.devoted_to(name):  # what lies there is this study's
            self._mark(name, uid)
        before = self.devoted_to(name)
        self._part(name, before, uid, "unknown")
        if before != uid:
            self._mark(name, uid)

    def remove(self, name: str) -> None:
        """Removes everything that this machine holds of the studies that have had this name."""
        self._devoted.pop(name, None)
        shutil.rmtree(self.study(name))

    def _mark(self, name: str, uid: str) -> None:
        partial = self.study(name) / f"partial-uid-{os.getpid()}"
        partial.write_text(uid)
        partial.replace(self.study(name) / "uid")

    def _part(self, name: str, *owners: str) -> None:
        """Gives each study of the name its folder where an earlier version left only one.

        What lies there is the first owner's that lacks it: another's than the first if that
        version was killed while it fetched it back. Several processes may do this at once.
        """
        folder = self.study(name)
        for former in folder.glob("former-*"):
            _merge(former, folder / former.name.removeprefix("former-"))
        for part in _PARTS:
            lacking = [each for each in owners if not (folder / each / part).exists()]
            if lacking and (folder / part).exists():
                (folder / lacking[0]).mkdir(exist_ok=True)
                with suppress(FileNotFoundError):  # another process was quicker
                    (folder / part).rename(folder / lacking[0] / part)

    def devoted_to(self, name: str) -> str:
        """The uid of the study that has the name here; empty where nobody has said."""
        mark = self.study(name) / "uid"
        return mark.read_text() if mark.exists() else ""

    def parent(self, name: str) -> Path:
        """The folder of the study's own spool."""
        return self.devoted(name) / "parent"

    def attempts(self, name: str) -> Path:
        """Below it, a folder for each attempt."""
        return self.devoted(name) / "attempts"

    def attempt(self, name: str, slot: int, number: int) -> Path:
        """The folder of one attempt."""
        return _inside(self.attempts(name), f"{slot}-{number}")

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
        """Makes the folder, for its owner alone; one that is there keeps its mode.

        Raises:
            UnavailableError: it cannot be made or written.
        """
        try:
            self.root.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise UnavailableError(
                f"{self.root}: cannot be made: {error.strerror}; set TUNER_HOME to a folder "
                "that can be written"
            ) from error
        if not os.access(self.root, os.W_OK):
            raise UnavailableError(
                f"{self.root}: cannot be written; set TUNER_HOME to a folder that can"
            )


def _identity(path: Path) -> tuple[str, str] | None:
    """A home's id and the inode of its folder, as the file says; None where it does not."""
    told = path.read_text(errors="replace").split() if path.exists() else []
    whole = len(told) == 2 and _UID.fullmatch(told[0])
    return (told[0], told[1]) if whole else None


def _identified(path: Path, inode: str) -> tuple[str, str]:
    """Writes the file, for all processes that ask at this moment once."""
    with exclusive(path):
        if (told := _identity(path)) is None:
            before = path.read_text(errors="replace").strip()
            told = before if _UID.fullmatch(before) else uuid.uuid4().hex, inode
            with replacing(path) as file:
                file.write(" ".join(told).encode())
    return told


def _inside(folder: Path, name: str) -> Path:
    """A folder below; its name may come from a database that others can write to.

    Raises:
        UsageError: it would lie elsewhere.
    """
    if not is_folder_name(name):
        raise UsageError(f"{name!r}: cannot be the name of a folder in {folder}")
    return folder / name


def _merge(source: Path, target: Path) -> None:
    target.mkdir(exist_ok=True)
    with suppress(FileNotFoundError):  # another process was quicker
        for each in source.iterdir():
            if not (target / each.name).exists():
                each.rename(target / each.name)
    with suppress(OSError):  # something is there twice
        source.rmdir()
