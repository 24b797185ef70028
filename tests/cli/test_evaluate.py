"""How test-set scores of several trials are put together."""

import numpy as np

from tests.tracking.recorder import summary
from tuner.cli.results.evaluate import rows_by_point
from tuner.search.ranking import PointSummary
from tuner.training.plan import Evaluation
from tuner.training.scores import evaluate_predictions


def scored(right: int) -> Evaluation:
    """Ten rows of one class, `right` of them recognised."""
    predicted = [0] * right + [1] * (10 - right)
    return evaluate_predictions(np.eye(2)[predicted], np.zeros(10, int), ("a", "b"))


def point(number: int, *trials: int) -> PointSummary:
    return PointSummary(
        point=number,
        params={},
        mean=0.9,
        std=0.1,
        completed=len(trials),
        seeds=3,
        trials=trials,
        trial=summary(trials[0]),
    )


def test_means_are_of_one_point_and_of_all_its_trainings() -> None:
    found = {trial: scored(right) for trial, right in {3: 8, 4: 10, 5: 9, 0: 2, 1: 4}.items()}

    rows = rows_by_point(found, [point(1, 3, 4, 5), point(0, 0, 1, 2)])

    assert [row[:3] for row in rows] == [
        *(("1", "3", "0.8000"), ("1", "4", "1.0000"), ("1", "5", "0.9000")),
        *(("1", "mean of 3", "0.9000"), ("1", "std", "0.1000")),
        *(("0", "0", "0.2000"), ("0", "1", "0.4000")),
    ]
