"""The home folder: the state of tuner on this machine, and its layout.

HOME/id                                 identifies this folder
    /tuner.db                           the database, unless TUNER_STORAGE_URL names another
    /mlflow.db  mlartifacts/            the local tracking store, unless a server is named
    /datasets/<name>-<digest>/          prepared arrays
    /models/                            verified copies of model files
    /packings.json  precisions.json     the fastest settings measured on this machine
    /studies/<study>/uid                the uid of the study that has the name now
                    /trainers/          trainers' output outside of trials
                    /<uid>/             a study that has or had the name
                          /code         the digest of the code that wrote its checkpoints
                          /parent/      its spool
                          /attempts/<slot>-<attempt>/   an attempt: spool, log, model
                          /shipper.log  the shipper's log
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
"""The parts of a study's folder that an earlier version stored one level higher."""


@dataclass(frozen=True)
class Home:
    """The home folder. `root` is absolute."""

    root: Path
    _own_studies: dict[str, str] = field(default_factory=dict, repr=False, compare=False)
    """The uids of the studies that this process works on, by name."""

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] | None = None) -> "Home":
        """Returns the folder `TUNER_HOME`, or else `.tuner` in the current folder.

        Raises:
            UsageError: the path is not valid text.
        """
        values = os.environ if environment is None else environment
        root = Path(values.get("TUNER_HOME") or ".tuner").absolute()
        check_text(root, "set TUNER_HOME to another folder")
        return cls(root)

    @property
    def uid(self) -> str:
        """Identifies this folder, wherever it is mounted.

        A copy of the folder has another uid, since the file `id` contains the folder's inode. The
        copy on a cloned disk has the same uid. A damaged file is written again, with a new uid.
        """
        path, inode = self.root / "id", str(self.root.stat().st_ino)
        uid, of = _identity(path) or _identified(path, inode)
        return uid if of == inode else uuid.uuid5(uuid.UUID(uid), inode).hex

    @property
    def datasets(self) -> Path:
        """The folder of the prepared data sets."""
        return self.root / "datasets"

    @property
    def database(self) -> Path:
        """The default database."""
        return self.root / "tuner.db"

    def studies(self) -> list[str]:
        """Returns the names of the studies that have files here."""
        folder = self.root / "studies"
        found = (each.name for each in folder.iterdir()) if folder.exists() else iter(())
        return sorted(filter(is_folder_name, found))

    def study(self, name: str) -> Path:
        """Returns the folder of all studies that have or had this name.

        Raises:
            UsageError: the name is not that of a folder; all methods with a name raise this.
        """
        return _inside(self.root / "studies", name)

    def current_study(self, name: str) -> Path:
        """Returns the folder of the study that has the name now.

        Finishes a move of files that a killed process left incomplete. If the file `uid` was
        deleted, the process that wrote it writes it again. The folder of an earlier version is
        one level higher until `set_current` is called.
        """
        folder, uid = self.study(name), self.current_uid(name)
        if not uid and name in self._own_studies:
            uid = self._own_studies[name]
            self.set_current(name, uid)
        present = _names(folder)  # one look, since drivers ask for their folders all the time
        if not uid or present.isdisjoint((uid, f"former-{uid}")):
            return folder
        if any(each in _PARTS or each.startswith("former-") for each in present):
            self._part(name, uid)
        return folder / uid

    def former_studies(self, name: str) -> list[Path]:
        """Returns the folders of earlier studies with the name: deleted, or of another database."""
        folders = [each for each in self.study(name).glob("*") if each.is_dir()]
        others = (self.current_uid(name), "trainers", *_PARTS)
        return sorted(each for each in folders if each.name not in others)

    def set_current(self, name: str, uid: str) -> None:
        """Gives the name to the study with this uid, in one step.

        Each study has a folder of its own, so only files of an earlier version are moved. If this
        process is killed meanwhile, the next one that uses the folder finishes the move.
        """
        folder = self.study(name)
        _inside(folder, uid).mkdir(parents=True, exist_ok=True)
        self._own_studies[name] = uid
        if not self.current_uid(name):  # existing files belong to this study
            self._mark(name, uid)
        before = self.current_uid(name)
        self._part(name, before, uid, "unknown")
        if before != uid:
            self._mark(name, uid)

    def remove(self, name: str) -> None:
        """Deletes the files of all studies that have or had this name."""
        self._own_studies.pop(name, None)
        shutil.rmtree(self.study(name))

    def _mark(self, name: str, uid: str) -> None:
        partial = self.study(name) / f"partial-uid-{os.getpid()}"
        partial.write_text(uid)
        partial.replace(self.study(name) / "uid")

    def _part(self, name: str, *owners: str) -> None:
        """Moves the files of an earlier version into a folder for each study.

        They belong to the first owner without such files: not always the first owner, since the
        earlier version may have been killed during a move. Several processes may do this at once.
        """
        folder = self.study(name)
        for former in folder.glob("former-*"):
            _merge(former, folder / former.name.removeprefix("former-"))
        for part in _PARTS:
            lacking = [each for each in owners if not (folder / each / part).exists()]
            if lacking and (folder / part).exists():
                (folder / lacking[0]).mkdir(exist_ok=True)
                with suppress(FileNotFoundError):  # another process was faster
                    (folder / part).rename(folder / lacking[0] / part)

    def current_uid(self, name: str) -> str:
        """Returns the uid of the study that has the name here; empty if there is none."""
        with suppress(FileNotFoundError, NotADirectoryError):
            return (self.study(name) / "uid").read_text()
        return ""

    def parent(self, name: str) -> Path:
        """Returns the folder of the study's own spool."""
        return self.current_study(name) / "parent"

    def attempts(self, name: str) -> Path:
        """Returns the folder that contains the attempts' folders."""
        return self.current_study(name) / "attempts"

    def attempt(self, name: str, slot: int, number: int) -> Path:
        """Returns the folder of one attempt."""
        return _inside(self.attempts(name), f"{slot}-{number}")

    def trainer_logs(self, name: str) -> Path:
        """Returns the folder of the trainers' output outside of trials."""
        return self.study(name) / "trainers"

    @property
    def packings(self) -> Path:
        """The file of the fastest numbers of trainers on this machine, by workload."""
        return self.root / "packings.json"

    @property
    def precisions(self) -> Path:
        """The file of epoch times on this machine in each precision, by data and network."""
        return self.root / "precisions.json"

    def create(self) -> None:
        """Creates the folder with access for its owner only; an existing one keeps its mode.

        Raises:
            UnavailableError: it cannot be created or written.
        """
        try:
            self.root.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise UnavailableError(
                f"{self.root}: cannot be created: {error.strerror}; set TUNER_HOME to a writable "
                "folder"
            ) from error
        if not os.access(self.root, os.W_OK):
            raise UnavailableError(
                f"{self.root}: cannot be written; set TUNER_HOME to a writable folder"
            )


def _identity(path: Path) -> tuple[str, str] | None:
    """Reads a home's uid and the inode of its folder; None if the file is missing or damaged."""
    words = path.read_text(errors="replace").split() if path.exists() else []
    valid = len(words) == 2 and _UID.fullmatch(words[0])
    return (words[0], words[1]) if valid else None


def _identified(path: Path, inode: str) -> tuple[str, str]:
    """Writes the file, unless another process has written it meanwhile. Returns its content."""
    with exclusive(path):
        if (identity := _identity(path)) is None:
            before = path.read_text(errors="replace").strip()
            identity = before if _UID.fullmatch(before) else uuid.uuid4().hex, inode
            with replacing(path) as file:
                file.write(" ".join(identity).encode())
    return identity


def _inside(folder: Path, name: str) -> Path:
    """Returns a subfolder. Its name may come from a database that others can write to.

    Raises:
        UsageError: it would be outside the folder.
    """
    if not is_folder_name(name):
        raise UsageError(f"{name!r}: cannot be the name of a folder in {folder}")
    return folder / name


def _names(folder: Path) -> set[str]:
    """Returns the names of what is in the folder; empty if there is no such folder."""
    with suppress(FileNotFoundError, NotADirectoryError):
        return set(os.listdir(folder))  # noqa: PTH208 - makes no path of each
    return set()


def _merge(source: Path, target: Path) -> None:
    target.mkdir(exist_ok=True)
    with suppress(FileNotFoundError):  # another process was faster
        for each in source.iterdir():
            if not (target / each.name).exists():
                each.rename(target / each.name)
    with suppress(OSError):  # a file exists in both folders
        source.rmdir()
