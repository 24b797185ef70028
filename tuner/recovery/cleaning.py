"""What a home folder forgets: leftovers that MLflow has everything of, a month after they ended.

A study that the database still has is never touched: its spools are what `tuner doctor --fix`
heals MLflow from. Leftovers are

- the folder of a study that the database does not have, deleted from another machine;
- the spools of a former study of the same name;
- what trainers that are gone printed outside of trials.

The first two are kept for as long as they hold an event that MLflow lacks, or a checkpoint: the
study may be one of another database, and go on.
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
"""How long leftovers stay after their last change."""


def clean(home: Home, catalog: Catalog) -> None:
    """Removes the leftovers of every study that no driver of this home is at work on."""
    known = set(catalog.names())
    for name in home.studies():
        # What is in use, vanishes or belongs to another user is left for another time.
        with suppress(RefusedError, OSError):
            if any(_leftovers(home, name, known=name in known)):
                with only_driver(home, name):
                    for path in list(_leftovers(home, name, known=name in known)):
                        home.remove(name) if path == home.study(name) else _remove(path)


def _leftovers(home: Home, name: str, *, known: bool) -> Iterator[Path]:
    folder = home.study(name)
    former = home.formers(name)
    yield from (each for each in former if _is_old(each) and not _is_wanted(each))
    yield from (log for log in home.trainer_logs(name).glob("*.log") if _is_old(log))
    if not known and _is_old(folder) and not any(map(_is_wanted, (home.devoted(name), *former))):
        yield folder


def _is_wanted(folder: Path) -> bool:
    return bool(survey(folder).pending) or any(folder.glob(f"attempts/*/{CHECKPOINT}"))


def _is_old(path: Path) -> bool:
    """Whether no file in it has changed for as long; looking at it makes a lock."""
    files = (each for each in (path, *path.rglob("*")) if each.is_file() and each.suffix != ".lock")
    newest = max((file.stat().st_mtime for file in files), default=path.stat().st_mtime)
    return time.time() - newest > KEPT_S


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink()
