"""How the loop measures an epoch, on an engine that follows a script."""

from collections.abc import Callable
from functools import partial

import pytest

from tests.training.conftest import PlanMaker
from tests.training.scripted_engine import ROWS, Clock, ScriptedEngine, data
from tuner.training import training_loop


@pytest.mark.parametrize(
    ("float32_s", "bfloat16_s", "rounds"),
    [
        ((3.0,), (1.0,), 1),
        ((1.0,), (3.0,), 1),
        ((4.0, 4.0, 5.0), (3.0, 3.0, 3.5), 3),
        ((4.0, 4.0, 5.0, 4.0, 4.0), (3.0, 3.9, 3.5, 4.1, 4.0), 5),
    ],
)
def test_an_epochs_seconds_are_measured_without_the_first_step_until_they_tell(
    make_plan: PlanMaker,
    monkeypatch: pytest.MonkeyPatch,
    float32_s: tuple[float, ...],
    bfloat16_s: tuple[float, ...],
    rounds: int,
) -> None:
    taken = [seconds for pair in zip(float32_s, bfloat16_s, strict=True) for seconds in pair]
    clock = Clock()
    epochs: dict[int, Callable[[], None]] = {
        2 * turn + 1: partial(clock.advance, 9.0) for turn in range(len(taken))
    }
    epochs |= {2 * turn + 2: partial(clock.advance, each) for turn, each in enumerate(taken)}
    script = ScriptedEngine((), during=epochs)
    monkeypatch.setattr("tuner.training.training_loop.time.perf_counter", clock.now)

    plans = [make_plan(batch_size=4, precision=each) for each in ("float32", "bfloat16")]
    times = training_loop.epoch_times(plans, data(), script, {})

    per_row = (ROWS + ROWS / 3) / 32
    assert times.rounds == {
        "float32": pytest.approx([each * per_row for each in float32_s]),
        "bfloat16": pytest.approx([each * per_row for each in bfloat16_s]),
    }
    assert [len(order) for order in script.orders] == [4, 32] * 2 * rounds


def test_short_steps_are_repeated_and_a_known_network_is_measured_in_its_precision_alone(
    make_plan: PlanMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock()
    steps: dict[int, Callable[[], None]] = {
        number: partial(clock.advance, 0.04) for number in range(1, 5)
    }
    script = ScriptedEngine((), during=steps)
    monkeypatch.setattr("tuner.training.training_loop.time.perf_counter", clock.now)
    plans = [make_plan(batch_size=4, precision=each) for each in ("float32", "bfloat16")]

    times = training_loop.epoch_times(
        plans, data(), script, {"scripted": "bfloat16", "other": "float32"}
    )

    assert times.rounds == {"bfloat16": pytest.approx([0.04 * (ROWS + ROWS / 3) / 32])}
    assert times.precision == "bfloat16"
    assert [len(order) for order in script.orders] == [4, 32, 32]
