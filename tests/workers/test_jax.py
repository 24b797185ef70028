"""Trainers on JAX, where TensorFlow is not installed."""

import os
from collections.abc import Iterator
from contextlib import closing

import numpy as np
import pytest

from tests.workers.conftest import PlanMaker, follow, when_idle
from tuner.training.plan import Outcome, TrialPlan
from tuner.workers.devices import layout
from tuner.workers.local_pool import LocalPool
from tuner.workers.messages import OUTPUT_LOG
from tuner.workers.pool import Finished

NO_TENSORFLOW = 'raise ModuleNotFoundError("no TensorFlow on this machine", name="tensorflow")'
SEEDS = (1, 2, 3)


@pytest.fixture(scope="module")
def jax_pool(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalPool]:
    """One trainer, for which importing TensorFlow fails as where it is not installed."""
    hollow = tmp_path_factory.mktemp("hollow")
    (hollow / "tensorflow.py").write_text(NO_TENSORFLOW)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(hollow), prepend=os.pathsep)
        patch.setenv("MPLBACKEND", "module://matplotlib_inline.backend_inline")  # as in a notebook
        pool = LocalPool(layout(1, 1), tmp_path_factory.mktemp("logs"), "jax")
    with closing(pool):
        yield pool


def final_accuracies(pool: LocalPool, plans: list[TrialPlan]) -> list[float]:
    """The validation accuracy of each plan's last epoch, trained one after the other."""
    final = []
    for plan in plans:
        when_idle(pool, 1)
        pool.submit(plan)
        (finished,) = (event for event in follow(pool, plan) if isinstance(event, Finished))
        assert finished.result.error is None
        final.append(finished.result.epochs[-1].metrics["val_accuracy"])
    return final


@pytest.mark.slow
def test_a_trainer_on_jax_trains_and_saves_without_tensorflow(
    jax_pool: LocalPool, make_plan: PlanMaker
) -> None:
    plan = make_plan()
    plan = plan.model_copy(update={"params": {**plan.params, "shift": 0.1}})
    when_idle(jax_pool, 1)
    trainer = jax_pool.submit(plan)
    (finished,) = (event for event in follow(jax_pool, plan) if isinstance(event, Finished))
    assert trainer.backend == "jax"
    assert {"python", "jax", "jaxlib", "keras", "numpy"} <= set(trainer.versions)
    assert finished.result.error is None
    assert finished.result.state is Outcome.COMPLETED
    assert finished.result.model is not None
    assert not (plan.folder / OUTPUT_LOG).exists(), "it printed nothing"


@pytest.mark.slow
def test_both_backends_learn_as_much(
    jax_pool: LocalPool, pool: LocalPool, make_plan: PlanMaker
) -> None:
    """Over seeds, since each backend draws its own weights; 200 rows make a point of 0.005."""
    params = {"filters": 8, "dense_units": 32, "depth": 1, "dropout_rate": 0.3}
    settings = {"learning_rate": 0.01, "batch_size": 32, "epochs": 6}
    final = {}
    for backend, trainers in (("jax", jax_pool), ("tensorflow", pool)):
        plans = [make_plan("paper-cnn", params, seed=seed, **settings) for seed in SEEDS]
        final[backend] = final_accuracies(trainers, plans)
    assert min(map(min, final.values())) > 0.85
    assert abs(np.mean(final["jax"]) - np.mean(final["tensorflow"])) < 0.04
