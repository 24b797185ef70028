"""Random networks train as plain Keras trains them, whether they share a program or not.

`TUNER_TEST_NETWORKS=1000 pytest -n0 tests/training/test_random_networks.py` tries a thousand.
"""

import json
import os
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from tests.training.conftest import PlanMaker, make_data
from tuner.models import known_models
from tuner.training.data import TrainingData
from tuner.training.engines.base import Engine
from tuner.training.plan import TrialPlan

NOISE = 1e-3
"""Of an array's largest number."""
NUDGES = (1e-6, -1e-6, 2e-6, -2e-6)
"""What rounding may do to a pixel on its way. Two normalisations in a row make thousands of it."""
NETWORKS = int(os.environ.get("TUNER_TEST_NETWORKS", "24"))

pytestmark = [
    pytest.mark.slow,
    pytest.mark.usefixtures("own_networks", "default_precision"),
    pytest.mark.filterwarnings("ignore:Gradients do not exist for variables:UserWarning"),
    pytest.mark.filterwarnings("ignore:The model does not have any trainable weights:UserWarning"),
    pytest.mark.timeout(900 + 60 * NETWORKS),
]


def lists_of(kinds: list[str], most: int) -> st.SearchStrategy[list[tuple[str, int]]]:
    return st.lists(st.tuples(st.sampled_from(kinds), st.integers(0, 59)), max_size=most)


PARTS = [
    *("conv", "residual", "shared", "nested", "adapted", "drawing", "pooled", "normalised"),
    *("separable", "wrapped", "own layer", "own function", "penalised"),
]
FLAT_PARTS = ["dense", "sequence", "drawing", "normalised", "own layer", "embedded"]
CHANGES = ["freeze layer", "freeze variable", "regularize", "constrain", "scale", "redraw"]
RECIPES = st.tuples(lists_of(PARTS, 3), lists_of(FLAT_PARTS, 2), lists_of(CHANGES, 1))


def by_keras(
    plan: TrialPlan, data: TrainingData, order: NDArray[np.int32], nudge: float = 0.0
) -> list[NDArray[Any]]:
    """The weights after one epoch of Keras' own `fit`, on pixels that are off by a share."""
    import keras

    keras.utils.set_random_seed(plan.seed)
    model = known_models.build_from(plan.model.name, plan.params, data.image_shape, data.classes)
    optimizer = keras.optimizers.SGD(plan.recipe.learning_rate)
    model.compile(optimizer, "categorical_crossentropy", run_eagerly=True)
    labels = keras.utils.to_categorical(data.train.labels, data.classes)
    model.fit(
        data.train.pixels("unit")[order] * np.float32(1 + nudge),
        labels[order],
        batch_size=plan.recipe.batch_size,
        shuffle=False,
        verbose=0,
    )
    return [np.array(weight) for weight in model.get_weights()]


@settings(
    max_examples=NETWORKS,
    deadline=None,
    derandomize=NETWORKS < 100,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(recipe=RECIPES)
@example(recipe=([], [("normalised", 0), ("embedded", 0)], []))  # no gradient of the first
@example(recipe=([("adapted", 1), ("nested", 0), ("own function", 2)], [], [("regularize", 0)]))
def test_a_random_network_trains_as_in_keras_fit(
    engine: Engine, make_plan: PlanMaker, recipe: Any
) -> None:
    data = make_data(24, 4)
    order = np.random.default_rng(5).permutation(24).astype(np.int32)
    params = {"recipe": json.dumps(recipe)}
    plans = [
        make_plan(
            "random_networks:built",
            params,
            seed=seed,
            optimizer="sgd",
            learning_rate=0.05,
            batch_size=10,
        )
        for seed in (1, 2)
    ]
    engine.session(plans[0], data).train_epoch(order)  # leaves its program to the next one
    session = engine.session(plans[1], data)
    session.train_epoch(order)
    trained: list[NDArray[Any]] = session.weights()
    expected = by_keras(plans[1], data, order)
    apart = distance(trained, expected)
    if apart > NOISE:  # no more than about what rounding does to Keras itself
        nudged = [distance(by_keras(plans[1], data, order, each), expected) for each in NUDGES]
        assert apart <= 2 * max(nudged)


def distance(ours: list[NDArray[Any]], theirs: list[NDArray[Any]]) -> float:
    """The largest difference, as a share of its array's largest number."""
    return max(
        float(np.abs(mine - keras).max(initial=0) / max(0.01, float(np.abs(keras).max(initial=0))))
        for mine, keras in zip(ours, theirs, strict=True)
    )
