"""The contract on JAX, in a process of its own, and what JAX does in its own way.

In that process `TUNER_TEST_BACKEND` is `jax`, and the tests marked `on_jax` run too.
"""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.training.conftest import BACKEND, OTHERWISE, PlanMaker, make_data
from tuner.training import training_loop
from tuner.training.engines.base import Engine
from tuner.training.plan import EpochReport, TrialPlan

is_jax = BACKEND == "jax"
on_jax = pytest.mark.skipif(not is_jax, reason="runs in the process that the contract runs in")


@pytest.mark.slow
@pytest.mark.skipif(is_jax, reason="starts this very process")
@pytest.mark.timeout(3600)
def test_the_contract_holds_on_jax(tmp_path: Path) -> None:
    """Optimised less, since compiling takes most of the time."""
    files = ("test_engine.py", "test_random_networks.py", "test_jax.py")
    suite = [str(Path(__file__).with_name(name)) for name in files]
    options = ["-n0", "-q", "-m", "", "-p", "no:cacheprovider"]
    options.append(f"--basetemp={tmp_path / 'jax'}")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *options, *suite],
        env={
            **os.environ,
            "TUNER_TEST_BACKEND": "jax",
            "TUNER_TEST_NETWORKS": "4",
            "JAX_DISABLE_MOST_OPTIMIZATIONS": "1",
        },
        capture_output=True,
        check=False,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{len(OTHERWISE['jax'])} deselected" in done.stdout


def order(rows: int) -> NDArray[np.int32]:
    return np.arange(rows, dtype=np.int32)


@on_jax
@pytest.mark.usefixtures("own_networks", "default_precision")
def test_an_epoch_of_a_length_seen_before_is_not_compiled_again(
    engine: Engine, make_plan: PlanMaker
) -> None:
    from own_networks import TRACED  # type: ignore[import-not-found]  # on the path in a test

    session = engine.session(make_plan("own_networks:traced"), make_data())
    for rows in (150, 64, 1):
        session.train_epoch(order(rows))
        traced = len(TRACED)
        session.train_epoch(order(rows))
        assert len(TRACED) == traced


PLAIN: dict[str, Any] = {
    "params": {"dense_units": 16, "depth": 1, "dropout_rate": 0.3},
    "optimizer": "sgd",
    "learning_rate": 0.1,
}
CHANGES: list[dict[str, Any]] = [
    {"learning_rate": 0.2},
    {"schedule": "cosine"},
    {"weight_decay": 0.1},
    {"label_smoothing": 0.3},
    {"seed": 9},
    {"params": {**PLAIN["params"], "dropout_rate": 0.6}},
]


@on_jax
def test_trials_that_differ_in_inputs_alone_share_a_program_and_nothing_else(
    engine: Engine, make_plan: PlanMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    import keras

    def outcome(plan: TrialPlan) -> bytes:
        session = engine.session(plan, data)
        with monkeypatch.context() as patch:
            if results:
                patch.delattr(keras.layers.Dense, "call")  # whatever is traced anew wants it
            losses = [session.train_epoch(order(150)).loss for _ in range(2)]
            return repr(losses).encode() + session.probabilities().tobytes()

    data, results = make_data(), list[bytes]()
    for change in ({}, *CHANGES):
        results.append(outcome(make_plan(**{**PLAIN, **change})))
    assert len(set(results)) == len(results)
    assert outcome(make_plan(**PLAIN)) == results[0]


@on_jax
def test_convolutions_on_a_processor_run_in_no_loop_and_give_the_same(
    engine: Engine, make_plan: PlanMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    import jax

    params = {"depth": 1, "filters": 4, "dense_units": 8, "dropout_rate": 0.5}
    losses, weights = [], []
    for kind in ("cpu", "gpu"):
        fresh = type(engine)()  # a program keeps the way that it once took
        with monkeypatch.context() as patch:
            patch.setattr(jax, "default_backend", lambda kind=kind: kind)
            session = fresh.session(make_plan("paper-cnn", params), make_data())
            losses.append([session.train_epoch(order(150)).loss for _ in range(2)])
        weights.append(session.weights())
        assert bool(session.remarks) == (kind == "cpu")
    np.testing.assert_allclose(losses[0], losses[1], rtol=1e-5)
    for apart, looped in zip(*weights, strict=True):
        np.testing.assert_allclose(apart, looped, rtol=1e-4, atol=1e-5)


@on_jax
@pytest.mark.usefixtures("own_networks", "default_precision")
def test_a_network_that_cannot_be_traced_trains_step_by_step_and_says_so(
    engine: Engine, make_plan: PlanMaker
) -> None:
    data = make_data(200, 100)
    session = engine.session(make_plan("own_networks:uncompilable", learning_rate=0.01), data)
    losses = [session.train_epoch(order(200)).loss for _ in range(4)]
    assert losses[-1] < losses[0]
    assert session.probabilities().shape == (100, data.classes)
    (_, remark) = session.remarks
    assert remark.startswith("trains step by step, much slower: TracerArrayConversionError")


@on_jax
@pytest.mark.usefixtures("own_networks", "default_precision")
def test_a_network_that_jax_cannot_differentiate_fails_and_says_why(
    engine: Engine, make_plan: PlanMaker
) -> None:
    class Ignored:
        def epoch_ended(self, _report: EpochReport) -> None:
            pass

        def stops_after(self, _report: EpochReport) -> bool:
            return False

        def pruned(self) -> bool:
            return False

    plan, data = make_plan("own_networks:uncompilable", {"hidden": True}), make_data()
    result: Any = training_loop.train(plan, lambda _plan: data, engine, Ignored())
    assert result.error is not None
    assert result.error.type == "TracerArrayConversionError"
