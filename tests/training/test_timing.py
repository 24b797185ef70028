"""Which precision is the faster one by more than noise."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tuner.training.timing import EpochTimes


def measured(ratio: float, noise: float, seed: int) -> EpochTimes:
    """What a probe measures until it is decided, each round of either precision off by noise."""
    draw = random.Random(seed)  # noqa: S311 - no secret
    float32, bfloat16 = list[float](), list[float]()
    while True:
        float32.append(draw.uniform(1, 1 + noise))
        bfloat16.append(ratio * draw.uniform(1, 1 + noise))
        rounds = {"float32": tuple(float32), "bfloat16": tuple(bfloat16)}
        times = EpochTimes(network="a", rounds=rounds)
        if times.decided:
            return times


@given(ratio=st.floats(0.3, 2.0), seed=st.integers(0, 2**32))
def test_networks_that_are_nearly_alike_get_one_precision(ratio: float, seed: int) -> None:
    """Whatever the noise: a tenth of an epoch, here. About the margin itself either may win."""
    times = measured(ratio, 0.1, seed)
    if abs(ratio - 0.8) > 0.09:
        assert times.precision == ("bfloat16" if ratio < 0.8 else "float32")
    assert len(times.rounds["float32"]) <= 5


def test_heavy_noise_seldom_makes_a_faster_one_of_two_alike() -> None:
    """Rounds that take up to 1.4 times as long as they should."""
    chosen = [measured(1.0, 0.4, seed).precision for seed in range(1000)]
    assert chosen.count("bfloat16") < 20


@pytest.mark.parametrize(
    ("float32", "bfloat16", "decided", "precision"),
    [
        ([3.0], [2.0], True, "bfloat16"),
        ([3.0], [2.1], False, "bfloat16"),
        ([2.0], [3.0], True, "float32"),
        ([2.0, 2.0, 2.0], [2.9, 1.9, 1.7], True, "float32"),
        ([4.0, 4.0, 4.0], [3.0, 3.0, 3.0], True, "bfloat16"),
        ([4.0, 4.0, 4.0], [3.0, 9.0, 3.0], False, "bfloat16"),
        ([4.0] * 5, [3.0, 9.0, 3.0, 4.0, 4.0], True, "float32"),
    ],
)
def test_one_round_decides_where_it_is_clear_and_most_of_five_otherwise(
    float32: list[float], bfloat16: list[float], decided: bool, precision: str
) -> None:
    rounds = {"float32": tuple(float32), "bfloat16": tuple(bfloat16)}
    times = EpochTimes.model_validate({"network": "a", "rounds": rounds})
    assert times.decided == decided
    assert times.precision == precision


def test_several_trainers_count_as_one_machine_in_what_all_of_them_measured() -> None:
    one = EpochTimes(network="a", rounds={"float32": (1.0, 3.0), "bfloat16": (0.5, 1.0)})
    other = EpochTimes(network="a", rounds={"float32": (2.0,), "bfloat16": (9.0,)})
    both = EpochTimes.together([one, other])
    assert both.rounds == {"float32": (1.0, 3.0, 2.0), "bfloat16": (0.5, 1.0, 9.0)}
    assert (both.precision, both.epoch_s) == ("bfloat16", 1.0)
    emulated = EpochTimes(network="a", rounds={"float32": (2.0,)})
    assert EpochTimes.together([one, emulated]).rounds == {"float32": (1.0, 3.0, 2.0)}
