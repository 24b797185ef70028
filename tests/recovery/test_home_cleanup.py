"""What a home forgets, and what it must not."""

import os
import shutil
import time
from pathlib import Path

import pytest

from tests.bench import Bench, ScriptedPool, small_study
from tuner.recovery.home_cleanup import KEPT_S, clean_home
from tuner.storage.studies import Catalog
from tuner.tracking.spool.shipped import Progress, save_progress
from tuner.tracking.spool.spool import spool_folders
from tuner.training.plan import CHECKPOINT


@pytest.fixture
def folder(bench: Bench) -> Path:
    """Of a study that has ended."""
    bench.run(small_study(trials=2), ScriptedPool())
    return bench.home.current_study("small")


def ship(folder: Path) -> None:
    for spool in spool_folders(folder):
        size = (spool / "spool.jsonl").stat().st_size
        save_progress(spool, Progress(destination="somewhere", offset=size))


def age(folder: Path, seconds: float = 2 * KEPT_S) -> None:
    for path in (folder, *folder.rglob("*")):
        os.utime(path, (time.time() - seconds,) * 2)


def cleaned(bench: Bench) -> set[str]:
    clean_home(bench.home, Catalog(bench.database))
    home = bench.home
    folders = (home.study("small"), home.current_study("small"), *home.former_studies("small"))
    return {path.name for folder in folders for path in folder.glob("*")}


def test_a_study_in_the_database_keeps_its_spools(bench: Bench, folder: Path) -> None:
    ship(folder)
    age(folder.parent)
    assert {"parent", "attempts"} <= cleaned(bench)


def test_a_deleted_study_is_removed_a_month_after_it_was_shipped(
    bench: Bench, folder: Path
) -> None:
    Catalog(bench.database).delete("small")
    age(folder.parent)
    assert "attempts" in cleaned(bench), "MLflow lacks its events"
    ship(folder)
    assert "attempts" in cleaned(bench), "it has just been shipped"
    checkpoint = bench.home.attempt("small", 0, 0) / CHECKPOINT
    checkpoint.touch()
    age(folder.parent)
    assert "attempts" in cleaned(bench), "it may be of another database, and go on"
    checkpoint.unlink()
    assert cleaned(bench) == set()
    assert not folder.parent.exists()


def test_spools_of_a_former_study_and_old_logs_are_removed(bench: Bench, folder: Path) -> None:
    former = bench.home.study("small") / "1"
    shutil.copytree(folder / "attempts", former / "attempts")
    log = bench.home.trainer_logs("small") / "trainer-1-0.log"
    log.parent.mkdir(exist_ok=True)
    log.touch()
    age(folder.parent)
    left = cleaned(bench)
    assert "1" in left, "MLflow lacks its events"
    assert not log.exists()
    ship(former)
    age(former)
    assert cleaned(bench) == left - {"1"}
