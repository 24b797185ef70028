"""Recorded trainings repeated by the real command, in trainer processes."""

import hashlib
import json
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.cli.conftest import Workshop

pytestmark = pytest.mark.slow

RACE = ["--finalists", "1", "--max-seeds", "5"]


def state(home: Path) -> dict[str, Any]:
    """Every row of both databases, and the time and bytes of every file of the studies."""
    told: dict[str, Any] = {}
    for name in ("tuner.db", "mlflow.db"):
        with closing(sqlite3.connect(home / name)) as database:
            tables = database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
            for (table,) in tables.fetchall():
                rows = database.execute(f'SELECT * FROM "{table}"').fetchall()  # noqa: S608
                told[f"{name}:{table}"] = sorted(map(repr, rows))
    for folder in ("studies", "mlartifacts"):
        for file in sorted((home / folder).rglob("*")):
            if file.is_file():
                digest = hashlib.sha256(file.read_bytes()).hexdigest()
                told[str(file.relative_to(home))] = (file.stat().st_mtime_ns, digest)
    return told


def verified(workshop: Workshop, *arguments: str, code: int = 0) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(
        workshop.tuner("verify", *arguments, "--json", code=code).stdout
    )
    return found


@contextmanager
def edited(file: Path, old: str, new: str) -> Iterator[None]:
    """The file with another text inside the block."""
    before = file.read_text()
    assert old in before
    file.write_text(before.replace(old, new))
    try:
        yield
    finally:
        file.write_text(before)


@pytest.fixture
def set_value(finished: Workshop) -> Iterator[Callable[[int, float], float]]:
    """Sets the recorded objective of an epoch of trial 1 and returns what it was."""
    where = (
        "step = ? AND trial_id = (SELECT trial_id FROM trials JOIN studies USING (study_id)"
        " WHERE study_name = 'shapes' AND number = 1)"
    )
    before: dict[int, float] = {}

    def run(epoch: int, value: float) -> float:
        with (
            closing(sqlite3.connect(finished.folder / ".tuner" / "tuner.db")) as database,
            database,
        ):
            asked = f"SELECT intermediate_value FROM trial_intermediate_values WHERE {where}"  # noqa: S608
            (was,) = database.execute(asked, (epoch,)).fetchone()
            changed = f"UPDATE trial_intermediate_values SET intermediate_value = ? WHERE {where}"  # noqa: S608
            database.execute(changed, (value, epoch))
        before.setdefault(epoch, was)
        return float(was)

    yield run
    for epoch, was in before.items():
        run(epoch, was)


def test_a_training_with_a_users_own_code_repeats_bit_for_bit_and_nothing_is_written(
    finished: Workshop,
) -> None:
    best = finished.shown()["best"]["trial"]["number"]
    before = state(finished.folder / ".tuner")
    found = verified(finished, "shapes")
    assert state(finished.folder / ".tuner") == before
    assert (found["agreement"], found["trial"], found["first"]) == ("identical", best, None)
    assert (found["exact"], found["weights"], found["changes"]) == (True, True, [])
    assert (found["unrecorded"], found["difference"]) == ([], 0.0)
    assert found["figures"] == {"database": 8, "spool": 18}


def test_a_value_changed_in_the_database_is_named_and_exits_1(
    finished: Workshop, set_value: Callable[[int, float], float]
) -> None:
    was = set_value(2, 0.125)
    refused = finished.tuner("verify", "shapes", "--trial", "1", code=1)
    line = f"epoch 2, val_accuracy: recorded 0.125 (database), repeated {was}"
    assert f"first difference: {line}" in refused.stdout
    assert f"error: trial 1 of shapes does not repeat: {line}" in refused.stderr


def test_changed_code_is_refused_with_the_files_and_what_to_do(finished: Workshop) -> None:
    with edited(finished.folder / "networks.py", "values / 2", "values / 3"):
        refused = finished.tuner("verify", "shapes", code=2)
    assert "trial" in refused.stderr
    assert "was trained with other code: networks.py" in refused.stderr
    assert "-        return values / 2\n+        return values / 3" in refused.stderr
    assert "in the study's run, in code/from-trial-0" in refused.stderr


def test_a_changed_data_set_is_refused(finished: Workshop) -> None:
    with edited(finished.folder / "shapes.py", "default_rng(0)", "default_rng(1)"):
        refused = finished.tuner("verify", "shapes", code=4)
    assert "data set shapes:load: shapes was trained on digest" in refused.stderr


def test_a_pruned_training_repeats_up_to_its_pruning(
    make_workshop: Callable[[str], Workshop],
) -> None:
    workshop = make_workshop("pruned")
    worse = "  - {learning_rate: 0.01, width: 16}\n  - {learning_rate: 0.001, width: 8}\n"
    with edited(workshop.folder / "study.yaml", "  - {learning_rate: 0.01, width: 16}\n", worse):
        pruner = "pruner={type: median, n_startup_trials: 1, n_warmup_steps: 2}"
        workshop.tuner("run-study", "study.yaml", "--trials", "2", "--set", pruner)
    assert [trial["state"] for trial in workshop.shown()["trials"]] == ["completed", "pruned"]
    found = verified(workshop, "shapes", "--trial", "1")
    assert (found["agreement"], found["state"], found["epochs"]) == ("identical", "pruned", 2)
    assert found["weights"], "of the best of its epochs"


def test_a_training_of_a_confirmation_repeats(make_workshop: Callable[[str], Workshop]) -> None:
    """Its last epoch counts, its seeds and validation rows are those of its block."""
    workshop = make_workshop("confirmed")
    workshop.tuner("run-study", "study.yaml", "--epochs", "2")
    workshop.tuner("confirm", "shapes", *RACE)
    found = verified(workshop, "shapes-confirmation", "--trial", "3")
    assert (found["agreement"], found["weights"]) == ("identical", True)
    assert found["spread"]["study"] == "shapes-confirmation"


def test_a_training_on_jax_with_several_seeds_repeats(
    make_workshop: Callable[[str], Workshop],
) -> None:
    workshop = make_workshop("jax")
    seeds = ["--set", "backend=jax", "--set", "seeds=2"]
    workshop.tuner("run-study", "study.yaml", "--trials", "1", *seeds)
    found = verified(workshop, "shapes")
    assert (found["agreement"], found["exact"]) == ("identical", False)
    assert (found["spread"]["study"], found["spread"]["degrees"]) == ("shapes", 1)
