"""Where the spread of a study's trainings comes from."""

from collections.abc import Callable
from statistics import stdev

import numpy as np
import pytest

from tests.bench import Bench, ScriptedPool, rising
from tuner.spec.study_spec import StudySpec
from tuner.study.confirmation.race_study import confirmation_of
from tuner.study.study import Study
from tuner.training.plan import TrialPlan
from tuner.verification.noise import spread_of

Studied = Callable[..., StudySpec]
Opened = Callable[[StudySpec], Study]


def noisy(plan: TrialPlan, epoch: int) -> float:
    """A curve that depends on the seed too."""
    noise = np.random.default_rng((plan.seed, plan.split_seed)).normal(0, 0.01)
    return rising(plan, epoch) + float(noise)


def test_one_training_of_each_point_tells_no_spread(studied: Studied, opened: Opened) -> None:
    assert spread_of(opened(studied())) is None


def test_several_seeds_tell_the_spread_within_their_points(
    studied: Studied, opened: Opened
) -> None:
    study = opened(studied(ScriptedPool(curve=noisy), seeds=4))
    first, second = (
        [row.value or 0.0 for row in study.trials.all() if row.user_attrs["slot"] // 4 == point]
        for point in (0, 1)
    )
    found = spread_of(study)
    assert found is not None
    assert (found.study, found.degrees) == ("small", 6)
    pooled = ((stdev(first) ** 2 + stdev(second) ** 2) / 2) ** 0.5
    assert found.std == pytest.approx(pooled)
    assert found.limit > 2.77 * found.std


def test_a_confirmation_tells_the_spread_of_a_study_with_one_seed(
    bench: Bench, studied: Studied, opened: Opened
) -> None:
    study = opened(studied(ScriptedPool(curve=noisy)))
    race = confirmation_of(study, {"max_seeds": 5}).spec
    bench.run(race, ScriptedPool(curve=noisy))
    found = spread_of(study)
    assert found is not None
    assert found.study == "small-confirmation"
    assert found == spread_of(opened(race)), "a confirmation has its own"
