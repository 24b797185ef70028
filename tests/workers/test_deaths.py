"""Trainers and drivers that die, are killed or never start."""

import os
import signal
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import psutil
import pytest

from tests.waiting import wait_until
from tests.workers.conftest import (
    LONGEST_S,
    NETWORKS,
    PlanMaker,
    follow,
    is_gone,
    next_epoch,
    next_event,
    reports_of,
    when_idle,
)
from tuner.errors import UnavailableError
from tuner.training.plan import CHECKPOINT, ModelPlan, Outcome
from tuner.workers.devices import Device
from tuner.workers.local_pool import LocalPool, TrainerProcess
from tuner.workers.pool import Finished, Lost

FOREVER = 1_000_000
"""Epochs that nobody waits for."""

DRIVER = """
import sys
from pathlib import Path
import psutil
from tuner.training.plan import CHECKPOINT, TrialPlan
from tuner.workers.devices import layout
from tuner.workers.local_pool import LocalPool
from tuner.workers.pool import Reported

plan = TrialPlan.model_validate_json(sys.argv[1])
pool = LocalPool(layout(1, 1), Path(sys.argv[2]))
print(*(child.pid for child in psutil.Process().children()), flush=True)
while not pool.idle:
    pool.next_event(600)
pool.submit(plan)
while not isinstance(pool.next_event(600), Reported):
    pass
print("training", flush=True)
while True:
    pool.next_event(600)
"""


def one_core() -> Device:
    return Device("cpu", (min(os.sched_getaffinity(0)),))


def test_a_killed_trainer_is_lost_and_replaced(numpy_pool: LocalPool, make_plan: PlanMaker) -> None:
    plan = make_plan(epochs=FOREVER)
    trainer = numpy_pool.submit(plan)
    next_epoch(numpy_pool, plan)
    os.kill(trainer.pid, signal.SIGKILL)
    lost = follow(numpy_pool, plan)[-1]
    assert isinstance(lost, Lost)
    assert lost.reason.startswith("killed by SIGKILL")
    when_idle(numpy_pool, 2)
    retries = [make_plan(attempt=2), make_plan()]
    trainers = [numpy_pool.submit(retry) for retry in retries]
    assert trainer.pid not in {trainer.pid for trainer in trainers}
    assert {trainer.assigned for trainer in trainers} == {"gpu:0", "gpu:1"}
    results = [e.result for e in follow(numpy_pool, *retries) if isinstance(e, Finished)]
    assert [result.state for result in results] == [Outcome.COMPLETED] * 2


def test_a_trainer_that_hangs_can_be_killed(numpy_pool: LocalPool, make_plan: PlanMaker) -> None:
    plan = make_plan(epochs=FOREVER)
    trainer = numpy_pool.submit(plan)
    next_epoch(numpy_pool, plan)
    os.kill(trainer.pid, signal.SIGSTOP)
    numpy_pool.kill(plan, "it hung")
    lost = follow(numpy_pool, plan)[-1]
    assert isinstance(lost, Lost)
    assert lost.reason.startswith("it hung")
    assert is_gone(trainer.pid)
    when_idle(numpy_pool, 2)


@pytest.mark.slow
def test_a_retry_goes_on_from_the_checkpoint_of_a_killed_trainer(
    pool: LocalPool, make_plan: PlanMaker
) -> None:
    """Its curve is that of a training which nobody killed."""
    params = {"dense_units": 16, "depth": 1, "dropout_rate": 0.5}
    through, killed = (make_plan(params=params, epochs=60) for _ in range(2))
    checkpoint = killed.folder / CHECKPOINT
    when_idle(pool, 2)
    pool.submit(through)
    trainer = pool.submit(killed)
    while not checkpoint.exists():
        next_event(pool)
    os.kill(trainer.pid, signal.SIGKILL)
    (whole,) = (e for e in follow(pool, through, killed) if isinstance(e, Finished))
    retry = killed.model_copy(
        update={"attempt": 2, "resumes": checkpoint, "folder": killed.folder.with_name("retry")}
    )
    when_idle(pool, 1)
    pool.submit(retry)
    *events, ended = follow(pool, retry)
    assert isinstance(ended, Finished)
    reports = ended.result.epochs
    assert reports_of(events, retry) == list(reports)
    assert [report.metrics for report in reports] == [r.metrics for r in whole.result.epochs]
    assert ended.result.remarks == ()


def test_a_trainer_that_dies_in_the_middle_of_an_answer_is_lost(
    pool: LocalPool, make_plan: PlanMaker
) -> None:
    plan = make_plan("faulty:cut_off", {})
    pool.submit(plan)
    lost = follow(pool, plan)[-1]
    assert isinstance(lost, Lost)
    log = plan.folder / "output.log"
    how = "killed by SIGKILL, probably by the kernel because memory ran out"
    assert lost.reason.startswith(f"{how}; its log {log} ends:\n")
    assert "about to die over (8, 8, 1) and 10" in lost.reason


@pytest.mark.slow
def test_a_module_that_ends_its_trainer_is_refused_and_a_busy_pool_closes(
    make_plan: PlanMaker, tmp_path: Path
) -> None:
    model = ModelPlan(name="exits_when_imported:network", code_path=(NETWORKS,))
    before = set(psutil.Process().children())
    with closing(LocalPool([one_core()], tmp_path / "logs")) as pool:
        with pytest.raises(
            UnavailableError, match=r"timed the model: exit status 3; its log"
        ) as died:
            pool.describe(model, "digits")
        assert str(died.value).endswith("leaving for good")
        when_idle(pool, 1)
        plan = make_plan(epochs=FOREVER)
        trainer = pool.submit(plan)
        next_epoch(pool, plan)
        assert not is_gone(trainer.pid)
    assert is_gone(trainer.pid)
    assert set(psutil.Process().children()) <= before


@pytest.mark.slow
@pytest.mark.parametrize("moment", ["starting", "training"])
def test_a_trainer_ends_when_its_driver_is_killed(
    make_plan: PlanMaker, tmp_path: Path, moment: str
) -> None:
    arguments = [make_plan(epochs=FOREVER).model_dump_json(), str(tmp_path / "logs")]
    command = [sys.executable, "-c", DRIVER, *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as driver:
        assert driver.stdout is not None
        (pid,) = map(int, driver.stdout.readline().split())
        if moment == "training":
            assert driver.stdout.readline() == "training\n"
        assert not is_gone(pid)
        driver.kill()
    wait_until(lambda: is_gone(pid))


def test_a_trainer_ends_when_its_driver_dies_in_the_middle_of_a_request() -> None:
    core = str(min(os.sched_getaffinity(0)))
    command = [sys.executable, "-m", "tuner.workers.trainer", "--cpus", core]
    command += ["--threads", "1", "--backend", "tensorflow"]
    said = subprocess.run(
        command, input=b'{"kind": "tra', capture_output=True, timeout=LONGEST_S, check=True
    )
    assert said.stdout == b""


def test_a_trainer_that_cannot_start_is_unavailable(tmp_path: Path) -> None:
    nowhere = Device("cpu", (10**6,))
    with (
        closing(LocalPool([nowhere], tmp_path)) as pool,
        pytest.raises(UnavailableError) as refused,
    ):
        pool.describe(ModelPlan(name="dense"), "digits")
    assert "a trainer on cpu:1000000 did not start: exit status 1; its log" in str(refused.value)
    assert "sched_setaffinity" in str(refused.value)


def test_a_trainer_that_says_nothing_more_and_does_not_go_is_killed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    deaf = "import os, time; os.close(1); time.sleep(600)"
    monkeypatch.setattr("tuner.workers.local_pool._TRAINER", ("-c", deaf))
    monkeypatch.setattr("tuner.children._PARTING_S", 0.1)
    trainer = TrainerProcess(Device("cpu", (0,), None, 1), "tensorflow", tmp_path / "log")
    assert list(trainer.answers()) == []
    assert trainer.ending(None).reason == "it closed its output and did not end"


def test_a_trainer_that_never_gets_ready_is_killed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mute = "import time; time.sleep(600)"
    monkeypatch.setattr("tuner.workers.local_pool._TRAINER", ("-c", mute))
    monkeypatch.setattr("tuner.workers.local_pool._START_S", 0.1)
    trainer = TrainerProcess(Device("cpu", (0,), None, 1), "tensorflow", tmp_path / "log")
    assert list(trainer.answers()) == []
    assert trainer.ending(None).reason == "it was not ready within 0.1 s"
