"""Which access to a test set a figure is from, and what is said of it."""

from pathlib import Path

import pytest

from tuner.datasets.store import DatasetInfo
from tuner.promotion.judging.evidence import HeldOut
from tuner.promotion.judging.test_set_use import TestSetUse, use_of
from tuner.storage.test_set_accesses import TestSetAccesses

MODEL, OTHER_MODEL = "a1" * 32, "a2" * 32


@pytest.mark.parametrize(
    ("access", "models", "said"),
    [
        (1, 1, "access 1 to the test images of digits"),
        (2, 2, "access 2 to the test images of digits"),
        (
            3,
            1,
            "access 3 to the test images of digits, each with this model: they have chosen nothing",
        ),
        (
            4,
            3,
            "access 4 to the test images of digits, with 3 models so far: if the best of them is "
            "kept for its test accuracy, that is up to 0.0012 too high on average",
        ),
    ],
)
def test_from_the_third_access_on_its_meaning_is_said(access: int, models: int, said: str) -> None:
    use = TestSetUse(dataset="digits", access=access, models=models, optimism=0.00123)
    assert str(use) == said


def test_the_models_that_were_scored_make_the_best_of_them_look_better(
    digits: DatasetInfo, looks: TestSetAccesses, tmp_path: Path
) -> None:
    """By the standard error times the mean of the larger of two standard normal values."""
    rows = HeldOut(digits.model_copy(update={"folder": tmp_path}), looks, 3, "evaluate")
    for model in (MODEL, MODEL, OTHER_MODEL):
        looks.begin(3, "evaluate", digits.digest, model)

    first, second = use_of(rows, MODEL, 0.9), use_of(rows, OTHER_MODEL, 0.9)

    assert (first.access, first.models, first.optimism) == (2, 1, 0)
    assert (second.access, second.models) == (3, 2)
    standard_error = (0.9 * 0.1 / digits.test_count) ** 0.5
    assert second.optimism == pytest.approx(0.56419 * standard_error, rel=0.01)
    assert use_of(rows, OTHER_MODEL, 1.0).optimism > 0
