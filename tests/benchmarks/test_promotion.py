"""The simulation of promotions: what it counts, and that the page shows the committed result."""

import json

import numpy as np

from benchmarks.harness import RESULTS
from benchmarks.promotion import POINTS, TestSet, contest, simulated
from benchmarks.promotion_report import DOCUMENT, renew
from tuner.spec.study_spec import Confirmation, Gates
from tuner.statistics import wilson_interval


def still(_rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """No noise but what keeps two trainings apart."""
    return _rng.normal(0, 1e-6, shape)


def loud(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    return rng.normal(0, 0.01, shape)


def test_a_gain_above_all_noise_is_found_with_few_trainings() -> None:
    row = simulated("still", still, 0.01, "", Confirmation(), 20)
    assert row.best_was_better.times == row.confirmed_was_better.times == 20
    assert row.trainings <= 4 * 3 + 2 * 2


def test_without_a_gain_the_best_training_misleads_and_the_confirmation_does_not() -> None:
    row = simulated("loud", loud, 0.0, "", Confirmation(max_seeds=5), 60)
    assert row.best_called_better.times / 60 > 1 - 3 / POINTS
    assert row.confirmed.times <= 6
    assert row.best_was_better.of == 60


def test_a_candidate_that_is_worse_by_more_than_the_margin_seldom_replaces_the_champion() -> None:
    found = contest(TestSet(10_000, 0.99), -0.003, 200)
    assert found.replaced.times <= 10
    assert found.shown_better.times == 0


def test_a_candidate_that_is_much_better_replaces_the_champion() -> None:
    found = contest(TestSet(10_000, 0.97), 0.012, 200)
    assert found.replaced.times == found.shown_better.times == 200


def test_the_page_shows_the_committed_result() -> None:
    content = json.loads((RESULTS / "promotion.json").read_text(encoding="utf-8"))
    assert renew(content) == DOCUMENT.read_text(encoding="utf-8"), "run benchmarks.promotion"


def test_in_the_committed_result_what_is_worse_by_the_margin_passes_in_five_of_a_hundred() -> None:
    content = json.loads((RESULTS / "promotion.json").read_text(encoding="utf-8"))
    rows = content["contests"]["rows"]
    worse = [row["replaced"] for row in rows if row["difference"] <= -Gates().champion_margin]
    assert len(worse) >= 9
    assert all(wilson_interval(each["times"] / each["of"], each["of"]).low < 0.05 for each in worse)
    below = [row["shown_better"] for row in rows if row["difference"] < 0]
    assert all(each["times"] <= 0.05 * each["of"] for each in below)
