"""Compiled programs are kept from trial to trial, and nothing of one trial reaches the next."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import wraps
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.training.conftest import PlanMaker, make_data
from tuner.training.data import TrainingData
from tuner.training.engines.base import Engine, Session

pytestmark = pytest.mark.usefixtures("own_networks", "default_precision")

SMALL: dict[str, Any] = {"dense_units": 16, "depth": 1}


@contextmanager
def tracing(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """Fills up with the names of the layers whose code runs: once a trace, never in a program."""
    import keras

    ran: list[str] = []
    original = keras.layers.Dense.call

    @wraps(original)
    def call(layer: Any, *arguments: Any, **options: Any) -> Any:
        ran.append(layer.name)
        return original(layer, *arguments, **options)

    with monkeypatch.context() as patch:
        patch.setattr(keras.layers.Dense, "call", call)
        yield ran


def order(data: TrainingData) -> NDArray[np.int32]:
    return np.arange(len(data.train), dtype=np.int32)


def outcome(session: Session, data: TrainingData) -> list[bytes]:
    """The weights after two epochs, and the probabilities, bit for bit."""
    losses = [session.train_epoch(order(data)).loss for _ in range(2)]
    arrays = [*session.weights(), session.probabilities()]
    return [repr(losses).encode(), *(array.tobytes() for array in arrays)]


CHANGES: list[dict[str, Any]] = [
    {"learning_rate": 0.01},
    {"batch_size": 50},
    {"schedule": "cosine"},
    {"seed": 9},
    {"params": {**SMALL, "dropout_rate": 0.7}},
    {"patience": 3},
]


@pytest.mark.slow_variants(quick=2)
@pytest.mark.parametrize("change", CHANGES, ids=lambda change: next(iter(change)))
def test_a_trial_that_differs_in_inputs_alone_is_not_compiled_again(
    engine: Engine, make_plan: PlanMaker, monkeypatch: pytest.MonkeyPatch, change: dict[str, Any]
) -> None:
    data, plain = make_data(), {"params": {**SMALL, "dropout_rate": 0.3}}
    first = outcome(engine.session(make_plan(**plain), data), data)
    session = engine.session(make_plan(**{**plain, **change}), data)
    with tracing(monkeypatch) as traced:
        other = outcome(session, data)
    assert traced == []
    assert session.remarks == ()
    if "patience" not in change:
        assert set(other).isdisjoint(first)
    assert outcome(engine.session(make_plan(**plain), data), data) == first


def test_a_functional_network_shares_its_program_too(
    engine: Engine, make_plan: PlanMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = make_data()
    plans = [make_plan("own_networks:branched", {"dropout_rate": rate}) for rate in (0.2, 0.6)]
    first = outcome(engine.session(plans[0], data), data)
    session = engine.session(plans[1], data)
    with tracing(monkeypatch) as traced:
        assert set(outcome(session, data)).isdisjoint(first)
    assert traced == []
    assert outcome(engine.session(plans[0], data), data) == first


@pytest.mark.slow_variants(quick=2)
@pytest.mark.parametrize(
    "change",
    [
        {"params": {**SMALL, "dense_units": 8}},
        {"params": {**SMALL, "dropout_rate": 0.0}},
        {"precision": "bfloat16"},
        {"optimizer": "sgd"},
        {"label_smoothing": 0.1},
        {"weight_decay": 0.1},
        {"shift": 0.1},
    ],
    ids=lambda change: next(iter(change)),
)
def test_another_network_or_recipe_is_another_program(
    engine: Engine, make_plan: PlanMaker, monkeypatch: pytest.MonkeyPatch, change: dict[str, Any]
) -> None:
    data = make_data()
    plan = make_plan(**{"params": {**SMALL, "dropout_rate": 0.3}, **change})
    engine.session(make_plan(params={**SMALL, "dropout_rate": 0.3}), data).train_epoch(order(data))
    session = engine.session(plan, data)
    with tracing(monkeypatch) as traced:
        first = outcome(session, data)
    assert traced
    session = engine.session(plan, data)
    with tracing(monkeypatch) as traced:
        assert outcome(session, data) == first
    assert traced == []


def test_the_program_of_other_data_is_not_used(engine: Engine, make_plan: PlanMaker) -> None:
    few, many = make_data(50, 20), make_data(400, 30)
    outcome(engine.session(make_plan(), few), few)
    session = engine.session(make_plan(), many)
    session.train_epoch(order(many))
    assert len(session.probabilities()) == 30


def test_a_network_with_code_of_its_own_is_compiled_for_each_trial_and_says_so(
    engine: Engine, make_plan: PlanMaker
) -> None:
    data = make_data()
    for scale in (1.0, 3.0):
        plan = make_plan("own_networks:scaling", {"scale": scale})
        session = engine.session(plan, data)
        session.train_epoch(order(data))
        assert session.remarks == ("compiled anew for this trial: Scaling is code of its own",)
        assert session.weights()[0].max() == pytest.approx(scale)


ALIKE_IN_CONFIGURATION: dict[str, tuple[str, dict[str, str], str]] = {
    "adapted": ("adapted", {}, "its configuration does not tell all of it, such as its answers"),
    "frozen": ("changed_variable", {"change": "frozen"}, "was changed after it was made"),
    "regularized": ("changed_variable", {"change": "regularized"}, "was changed after it was made"),
    "constrained": ("changed_variable", {"change": "constrained"}, "was changed after it was made"),
    "added": ("changed_variable", {"change": "added"}, "has variables that its configuration"),
    "activation": ("hidden_code", {"where": "activation"}, "activation is code of its own"),
    "call": ("hidden_code", {"where": "call"}, "call is code of its own"),
}


@pytest.mark.parametrize(
    ("network", "params", "reason"), ALIKE_IN_CONFIGURATION.values(), ids=ALIKE_IN_CONFIGURATION
)
def test_a_network_that_its_configuration_does_not_tell_gets_a_program_of_its_own(
    engine: Engine, make_plan: PlanMaker, network: str, params: dict[str, str], reason: str
) -> None:
    session = engine.session(make_plan(f"own_networks:{network}", params), make_data())
    (remark,) = session.remarks
    assert remark.startswith("compiled anew for this trial: ")
    assert reason in remark


def test_a_model_class_of_its_own_is_compiled_for_each_trial_and_says_so(
    engine: Engine, make_plan: PlanMaker
) -> None:
    data = make_data()
    session = engine.session(make_plan("own_networks:subclassed"), data)
    session.train_epoch(order(data))
    expected = "compiled anew for this trial: Subclassed is a model class of its own"
    assert session.remarks == (expected,)


def test_a_network_that_cannot_be_compiled_trains_step_by_step_and_says_so(
    engine: Engine, make_plan: PlanMaker
) -> None:
    data = make_data(200, 100)
    session = engine.session(make_plan("own_networks:uncompilable", learning_rate=0.01), data)
    losses = [session.train_epoch(order(data)).loss for _ in range(4)]
    assert losses[-1] < losses[0]
    assert session.probabilities().shape == (100, data.classes)
    assert any("trains step by step, much slower" in remark for remark in session.remarks)
