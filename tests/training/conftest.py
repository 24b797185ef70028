"""Engines in pytest's own process, on one thread, and the digits to train them on.

A process has one Keras backend. The contract runs on TensorFlow unless `TUNER_TEST_BACKEND`
names another one, as `test_jax.py` does for a process of its own.

TensorFlow takes its threads when its runtime starts, which another part's test may cause. So
they are set here, in the environment, which is read before any test runs.
"""

import os
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.datasets import load_digits

from tests.plans import small_plan
from tuner.training.data import Rows, TrainingData
from tuner.training.engines.base import Engine
from tuner.training.engines.jax import JaxEngine
from tuner.training.engines.tensorflow import TensorFlowEngine
from tuner.training.plan import ModelPlan, TrialPlan

os.environ.update(TF_NUM_INTRAOP_THREADS="1", TF_NUM_INTEROP_THREADS="1")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

ENGINES: dict[str, Callable[[], Engine]] = {
    "tensorflow": TensorFlowEngine,
    "jax": lambda: JaxEngine.start(threads=1),
}

BACKEND = os.environ.get("TUNER_TEST_BACKEND", "tensorflow")

OTHERWISE: dict[str, dict[str, str]] = {
    "tensorflow": {},
    "jax": {
        "test_an_epoch_of_any_length_runs_the_program_that_is_there": "XLA fixes every shape",
        "test_a_session_goes_on_from_a_state_as_if_never_interrupted[unseeded]": (
            "what is drawn without a seed is not in the state"
        ),
    },
}
"""What of the contract does not hold on a backend, and why."""

PlanMaker = Callable[..., TrialPlan]


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leaves out what of the contract does not hold on the backend."""
    out = [item for item in items if item.name in OTHERWISE[BACKEND]]
    items[:] = [item for item in items if item not in out]
    config.hook.pytest_deselected(items=out)


@pytest.fixture(scope="session")
def engine() -> Engine:
    """The process's engine, kept from test to test as a trainer keeps it from trial to trial."""
    return ENGINES[BACKEND]()


@pytest.fixture
def own_networks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Puts the folder of `own_networks` where a trainer would put a user's."""
    monkeypatch.syspath_prepend(Path(__file__).parent / "networks")


@pytest.fixture
def default_precision() -> Iterator[None]:
    """Gives the process its precision back, which a session sets for itself."""
    import keras

    policy = keras.config.dtype_policy()
    yield
    keras.config.set_dtype_policy(policy)


@cache
def _digits() -> Rows:
    images, labels = load_digits(return_X_y=True)
    return Rows((images.reshape(-1, 8, 8, 1) / 16 * 255).round().astype(np.uint8), labels)


def make_data(train: int = 150, validation: int = 40) -> TrainingData:
    """Cuts training and validation rows from the 1,797 digits of scikit-learn."""

    def rows(first: int, last: int) -> Rows:
        return Rows(_digits().images[first:last].copy(), _digits().labels[first:last].copy())

    return TrainingData(
        train=rows(0, train),
        validation=rows(train, train + validation),
        held_out=np.arange(train, train + validation),
        classes=10,
    )


@pytest.fixture
def make_plan(tmp_path: Path) -> PlanMaker:
    """Plans for a small network without dropout; keywords replace fields or the recipe's."""

    def make(
        model: str = "dense", params: dict[str, Any] | None = None, **changes: Any
    ) -> TrialPlan:
        small = {"dense_units": 16, "depth": 1, "dropout_rate": 0.0} if model == "dense" else {}
        own: dict[str, Any] = {
            "batch_size": 64,
            "model": ModelPlan(name=model),
            "dataset": tmp_path / "no-data",
            "validation": 40,
            "folder": tmp_path,
        }
        return small_plan(small if params is None else params, **own | changes)

    return make
