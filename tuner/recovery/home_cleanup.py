"""Removes old leftovers from a home folder, a month after their last change.

Leftovers are

- the folder of a study that is not in the database, for example deleted from another machine;
- the spools of an earlier study of the same name;
- the logs of trainers that have ended.

The first two stay while they hold an event that MLflow lacks, or a checkpoint: the study may be
one of another database, and resume. The spools of a study in the database always stay, since
`tuner doctor --fix` repairs MLflow from them.
"""

import shutil
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from tuner.errors import RefusedError
from tuner.home import Home
from tuner.storage.studies import Catalog
from tuner.study.driver_lock import only_driver
from tuner.tracking.spool.shipped import survey
from tuner.training.plan import CHECKPOINT

KEPT_S = 30 * 86_400.0
"""Seconds that leftovers stay after their last change."""


def clean_home(home: Home, catalog: Catalog) -> None:
    """Removes the leftovers of every study that no driver of this home works on.

    A file that is in use, vanishes or belongs to another user stays until another time.
    """
    known = set(catalog.names())
    for name in home.studies():
        with suppress(RefusedError, OSError):
            if any(_leftovers(home, name, known=name in known)):
                with only_driver(home, name):
                    for path in list(_leftovers(home, name, known=name in known)):
                        home.remove(name) if path == home.study(name) else _remove(path)


def _leftovers(home: Home, name: str, *, known: bool) -> Iterator[Path]:
    folder = home.study(name)
    former = home.former_studies(name)
    yield from (each for each in former if _is_old(each) and not _is_wanted(each))
    yield from (log for log in home.trainer_logs(name).glob("*.log") if _is_old(log))
    studies = home.current_study(name), *former
    if not known and _is_old(folder) and not any(map(_is_wanted, studies)):
        yield folder


def _is_wanted(folder: Path) -> bool:
    return bool(survey(folder).pending) or any(folder.glob(f"attempts/*/{CHECKPOINT}"))


def _is_old(path: Path) -> bool:
    """Whether no file in it has changed for a month; lock files do not count."""
    files = (each for each in (path, *path.rglob("*")) if each.is_file() and each.suffix != ".lock")
    newest = max((file.stat().st_mtime for file in files), default=path.stat().st_mtime)
    return time.time() - newest > KEPT_S


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink()
