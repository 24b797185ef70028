"""Which models are kept on disk and for MLflow, and when the others are removed."""

import os
import signal
from contextlib import closing
from pathlib import Path

import pytest

from tests.bench import Bench, ScriptedPool, first_told, small_study
from tuner.files import replaced
from tuner.home import Home
from tuner.storage.studies import Catalog
from tuner.study.driver_events import ProgressEvent, TrialDone
from tuner.tracking.spool.spool_events import (
    ModelKept,
)
from tuner.training.plan import (
    CHECKPOINT,
    MODEL,
    TrialPlan,
)


def test_only_the_best_models_are_kept(bench: Bench) -> None:
    values = [0.1, 0.5, 0.9, 0.2, 0.8, 0.7]

    def curve(plan: TrialPlan, _epoch: int) -> float:
        return values[plan.slot]

    bench.run(small_study(keep_models=2), ScriptedPool(curve=curve))

    journal = bench.journal(small_study())
    kept = [slot for slot in range(6) if journal.keeps_model(bench.home.attempt("small", slot, 0))]
    assert kept == [2, 4]
    model = first_told(bench, small_study(), 2, 0, ModelKept)
    assert model.path.read_text() == "2"
    assert model_files(bench) == kept


def test_the_model_that_represents_a_point_is_kept_whenever_it_was_trained(bench: Bench) -> None:
    values = [0.90, 0.95, 0.99, 0.80, 0.81, 0.82]
    spec = small_study(keep_models=1, trials=2, seeds=3)
    pool = ScriptedPool(curve=lambda plan, _epoch: values[plan.slot])

    bench.run(spec, pool, stopped=lambda: len(pool.submitted) > 2)
    assert kept_slots(bench) == model_files(bench) == [0, 1]  # which is in the middle is open
    bench.run(spec, ScriptedPool(curve=lambda plan, _epoch: values[plan.slot]))

    assert kept_slots(bench) == model_files(bench) == [1]


def kept_slots(bench: Bench) -> list[int]:
    """The slots whose model MLflow is to have."""
    folders = sorted(bench.home.attempts("small").glob("*"))
    with closing(bench.journal(Catalog(bench.database).get("small").spec)) as journal:
        return [int(f.name.split("-")[0]) for f in folders if journal.keeps_model(f)]


@pytest.mark.slow
def test_a_model_is_removed_for_a_better_one_of_another_machine(
    bench: Bench, tmp_path: Path
) -> None:
    spec = small_study(keep_models=1, trials=3)
    other = Bench(Home(tmp_path / "other"), bench.database, bench.dataset)
    other.home.create()

    def curve(plan: TrialPlan, _epoch: int) -> float:
        return plan.slot / 10

    def leave_the_rest(progress: ProgressEvent) -> None:
        if isinstance(progress, TrialDone):
            other.run(spec, ScriptedPool(curve=curve))

    bench.run(spec, ScriptedPool(curve=curve), notify=leave_the_rest)
    assert (model_files(bench), model_files(other)) == ([], [2])


def test_models_that_a_dead_driver_left_are_removed(bench: Bench) -> None:
    bench.run(small_study(keep_models=1, trials=2), ScriptedPool())
    (kept,) = model_files(bench)
    (bench.home.attempt("small", 1 - kept, 0) / MODEL).write_text("left behind")
    bench.run(small_study(keep_models=1, trials=3), ScriptedPool())
    assert len(model_files(bench)) == 1


def test_files_that_a_killed_trainer_had_not_finished_are_removed(bench: Bench) -> None:
    bench.run(small_study(keep_models=1, trials=2), ScriptedPool())
    folder = bench.home.attempt("small", 0, 0)
    left = [file for name in (MODEL, CHECKPOINT) for file in unfinished(folder / name)]
    assert len(left) == 2

    bench.run(small_study(keep_models=1, trials=3), ScriptedPool())

    assert not any(file.exists() for file in left)


def unfinished(path: Path) -> list[Path]:
    """What is left of a write that was killed."""
    before = set(path.parent.iterdir())
    if (writer := os.fork()) == 0:
        with replaced(path) as partial:
            partial.write_text("half")
            os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(writer, 0)
    return sorted(set(path.parent.iterdir()) - before)


def model_files(bench: Bench) -> list[int]:
    """The slots whose model lies on disk."""
    files = bench.home.attempts("small").glob(f"*/{MODEL}")
    return sorted(int(path.parent.name.split("-")[0]) for path in files)
