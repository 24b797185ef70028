"""A pool of real trainer processes: what is trained, printed, asked and refused."""

from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from tests.workers.conftest import (
    NETWORKS,
    PlanMaker,
    follow,
    is_gone,
    next_epoch,
    reports_of,
    when_idle,
)
from tuner.code import digest
from tuner.errors import DataError, ModelError
from tuner.models.model_file import sha256_of
from tuner.training.engines.recipes import processor_precisions
from tuner.training.plan import ModelPlan, Outcome, Precision, SystemSampled, TrialPlan, TrialResult
from tuner.workers.devices import layout
from tuner.workers.local_pool import LocalPool
from tuner.workers.pool import Finished, PoolEvent, Reported

FOREVER = 1_000_000
"""Epochs that nobody waits for."""


def printed(plan: TrialPlan) -> str:
    return (plan.folder / "output.log").read_text()


def result_of(events: list[PoolEvent], plan: TrialPlan) -> TrialResult:
    (finished,) = (e for e in events if isinstance(e, Finished) and e.plan is plan)
    return finished.result


def epochs_of(events: list[PoolEvent], plan: TrialPlan) -> list[int]:
    return [report.epoch for report in reports_of(events, plan)]


def test_a_plan_becomes_a_result_with_everything_in_it(
    pool: LocalPool, make_plan: PlanMaker
) -> None:
    plan = make_plan(epochs=3)
    trainer = pool.submit(plan)
    assert (pool.size, pool.idle) == (2, 1)
    events = follow(pool, plan)
    assert pool.idle == 2
    assert trainer.backend == "tensorflow"
    assert trainer.assigned == "gpu:0"
    assert trainer.device.startswith("cpu:"), "no GPU answers behind the name"
    assert {"python", "tensorflow", "keras", "numpy"} <= set(trainer.versions)
    assert any(isinstance(e, Reported) and isinstance(e.event, SystemSampled) for e in events)
    result = result_of(events, plan)
    assert result.state is Outcome.COMPLETED
    assert result.error is None
    assert epochs_of(events, plan) == [report.epoch for report in result.epochs] == [1, 2, 3]
    assert result.model is not None
    assert result.model.path == plan.folder / "model.keras"
    assert result.model.sha256 == sha256_of(result.model.path)
    assert result.evaluation is not None
    assert np.sum(result.evaluation.confusion) == plan.validation
    assert [scores.label for scores in result.evaluation.classes] == list(plan.classes)
    assert result.best is not None
    assert result.evaluation.accuracy == pytest.approx(result.best.metrics["val_accuracy"])
    assert result.peak_memory_mb > 0


def test_two_trainers_train_at_once_each_on_a_gpu_of_its_own(
    pool: LocalPool, make_plan: PlanMaker, tmp_path: Path
) -> None:
    meeting = tmp_path / "meeting"
    meeting.mkdir()
    plans = [make_plan("rendezvous:network", {"meet_in": str(meeting)}) for _ in range(2)]
    trainers = [pool.submit(plan) for plan in plans]
    assert pool.idle == 0
    events = follow(pool, *plans)
    for plan, gpu in zip(plans, ("0", "1"), strict=True):
        assert result_of(events, plan).error is None
        assert epochs_of(events, plan) == [1, 2]
        assert f"sees GPU {gpu}\n" in printed(plan)
    assert {trainer.assigned for trainer in trainers} == {"gpu:0", "gpu:1"}
    assert {path.name for path in meeting.iterdir()} == {str(t.pid) for t in trainers}


def test_the_same_plan_gives_the_same_figures_on_every_trainer(
    pool: LocalPool, make_plan: PlanMaker
) -> None:
    plans = [make_plan() for _ in range(2)]
    for plan in plans:
        pool.submit(plan)
    events = follow(pool, *plans)
    first, second = ([r.metrics for r in result_of(events, plan).epochs] for plan in plans)
    assert first == second


def test_what_a_model_prints_goes_to_its_trials_log_alone(
    pool: LocalPool, make_plan: PlanMaker
) -> None:
    plans = [make_plan("loud:network", {"note": note}) for note in ("first", "second")]
    for plan in plans:
        pool.submit(plan)
        assert result_of(follow(pool, plan), plan).error is None
    for line in (
        '{"kind": "ready"} second',
        "stderr when built",
        "from native code",
        "from a child process",
    ):
        assert line in printed(plans[1]).splitlines()
    assert "first" not in printed(plans[1])
    assert "second" not in printed(plans[0])


def test_what_a_module_prints_when_it_is_imported_goes_to_the_log_too(
    pool: LocalPool, make_plan: PlanMaker, tmp_path: Path
) -> None:
    (tmp_path / "loud_anew.py").write_text((NETWORKS / "loud.py").read_text())
    plan = make_plan("loud_anew:network", {}, tmp_path)
    pool.submit(plan)
    assert result_of(follow(pool, plan), plan).error is None
    lines = printed(plan).splitlines()
    assert "printed when imported" in lines
    assert "stderr when imported" in lines


def test_a_model_that_asks_for_input_finds_none(pool: LocalPool, make_plan: PlanMaker) -> None:
    plan = make_plan("loud:network", {"asks": True})
    pool.submit(plan)
    result = result_of(follow(pool, plan), plan)
    assert result.error is not None
    assert result.error.type == "EOFError"


def test_a_pruned_plan_ends_early_with_its_best_model(
    pool: LocalPool, make_plan: PlanMaker
) -> None:
    plan = make_plan(epochs=FOREVER)
    pool.submit(plan)
    next_epoch(pool, plan)
    pool.prune(plan)
    result = result_of(follow(pool, plan), plan)
    assert result.state is Outcome.PRUNED
    assert 1 <= len(result.epochs) < FOREVER
    assert result.evaluation is not None
    assert result.model is not None
    assert result.model.path.exists()
    pool.prune(plan)
    again = make_plan(epochs=1)
    pool.submit(again)
    assert result_of(follow(pool, again), again).state is Outcome.COMPLETED


def test_a_plan_ends_with_the_epoch_after_which_it_was_pruned(
    pool: LocalPool, make_plan: PlanMaker
) -> None:
    for decisive in (1, 3):
        plan = make_plan(epochs=FOREVER)
        pool.submit(plan)
        for epoch in range(1, decisive):
            assert next_epoch(pool, plan).epoch == epoch
            pool.proceed(plan, epoch)
        assert next_epoch(pool, plan).epoch == decisive
        pool.prune(plan)
        result = result_of(follow(pool, plan), plan)
        assert [report.epoch for report in result.epochs] == list(range(1, decisive + 1))


def test_a_plan_nobody_decides_on_goes_on(pool: LocalPool, make_plan: PlanMaker) -> None:
    plan = make_plan(epochs=3)
    pool.submit(plan)
    assert epochs_of(follow(pool, plan), plan) == [1, 2, 3]


@pytest.mark.parametrize(
    ("model", "kind", "message"),
    [
        ("failing", "LookupError", "no network for 10 classes of (8, 8, 1)"),
        ("unspeakable", "LookupError", r"no network for 10 classes of (8, 8, 1), \ud800 and \x00"),
        ("silent", "SilentError", "<exception str() failed>"),
    ],
)
def test_a_model_function_that_raises_is_a_failed_result(
    pool: LocalPool, make_plan: PlanMaker, model: str, kind: str, message: str
) -> None:
    failing, next_plan = make_plan(f"faulty:{model}", {}), make_plan(epochs=1)
    trainer = pool.submit(failing)
    result = result_of(follow(pool, failing), failing)
    assert result.state is Outcome.FAILED
    assert result.error is not None
    assert result.error.type == kind
    assert result.error.message == message
    assert "faulty.py" in result.error.traceback
    assert pool.submit(next_plan).pid == trainer.pid
    assert result_of(follow(pool, next_plan), next_plan).state is Outcome.COMPLETED


def test_a_users_function_is_described(pool: LocalPool) -> None:
    model = ModelPlan(name="loud:network", code_path=(NETWORKS,))
    described = pool.describe(model, "rendezvous:network")
    assert described.hyperparameters == {"note": "built", "asks": False}
    files = ("loud.py", "rendezvous.py")
    assert described.source == {name: (NETWORKS / name).read_text() for name in files}
    assert described.code == described.source
    assert described.model_code == digest({"loud.py": described.source["loud.py"]})


def test_events_of_a_plan_wait_while_a_question_is_answered(
    pool: LocalPool, make_plan: PlanMaker
) -> None:
    plan = make_plan(epochs=5)
    pool.submit(plan)
    for _ in range(3):
        assert pool.describe(ModelPlan(name="dense"), "digits").source == {}
    events = follow(pool, plan)
    assert epochs_of(events, plan) == [1, 2, 3, 4, 5]
    assert isinstance(events[-1], Finished)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("loud:netwrok", "'netwrok'; did you mean 'network'?"),
        ("no_such_module:network", "cannot import 'no_such_module'"),
        ("breaks_when_imported:network", "network: ZeroDivisionError: division by zero"),
    ],
)
def test_a_function_that_is_not_there_is_refused(pool: LocalPool, name: str, message: str) -> None:
    with pytest.raises(ModelError, match=message) as refused:
        pool.describe(ModelPlan(name=name, code_path=(NETWORKS,)), "digits")
    assert "Traceback" in refused.value.__notes__[0]
    when_idle(pool, 2)


def test_an_epoch_is_measured(pool: LocalPool, make_plan: PlanMaker) -> None:
    times = pool.epoch_times(make_plan(), ["float32"])
    assert times.epoch_s > 0
    assert times.network == pool.epoch_times(make_plan(seed=7, batch_size=7), ["float32"]).network


def test_a_precision_that_is_emulated_is_measured_only_where_nothing_else_is_asked_for(
    pool: LocalPool, make_plan: PlanMaker
) -> None:
    both = pool.epoch_times(make_plan(), ["float32", "bfloat16"])
    assert set(both.rounds) == set(processor_precisions())
    assert set(pool.epoch_times(make_plan(), ["bfloat16"]).rounds) == {"bfloat16"}
    known: dict[str, Precision] = {both.network: "float32"}
    assert set(pool.epoch_times(make_plan(), ["float32", "bfloat16"], known).rounds) == {"float32"}


@pytest.mark.slow
def test_a_trainer_that_has_grown_is_replaced_between_two_trials(
    make_plan: PlanMaker, tmp_path: Path
) -> None:
    """The memory that its parent held when it was started does not count as the trainer's."""
    plans = [make_plan(), make_plan("leaky:network", {"leaked_mb": 1500}), make_plan()]
    parents_memory = np.ones(3000 * 2**20 // 8)
    with closing(LocalPool(layout(1, slots=1), tmp_path / "logs")) as pool:
        del parents_memory
        when_idle(pool, 1)
        first, grown, after = (trained(pool, plan) for plan in plans)
    assert grown == first
    assert after != first
    assert is_gone(first)


def trained(pool: LocalPool, plan: TrialPlan) -> int:
    """Trains a plan to its end and waits for the next trainer; returns the trainer's pid."""
    trainer = pool.submit(plan)
    assert result_of(follow(pool, plan), plan).error is None
    when_idle(pool, 1)
    return trainer.pid


def test_a_plan_that_cannot_be_measured_is_refused(pool: LocalPool, make_plan: PlanMaker) -> None:
    with pytest.raises(ModelError, match=r"dense: cannot be built with \{'depth': 'deep'\}"):
        pool.epoch_times(make_plan("dense", {"depth": "deep"}), ["float32"])
    with pytest.raises(DataError, match="validation: must be between 0 and"):
        pool.epoch_times(make_plan(validation=10**6), ["float32"])
    when_idle(pool, 2)
