"""Evidence: what a candidate is worth on data that no trial was chosen by.

The only place that opens a data set's test folder. Whoever calls is told right before.
"""

import math
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from tuner.datasets.store import DatasetInfo, read_arrays
from tuner.promotion.candidate import Candidate
from tuner.promotion.latency import Latency, measure
from tuner.promotion.predictor import Predictor
from tuner.spec.search_space import Frozen
from tuner.training.plan import Evaluation
from tuner.training.scores import evaluate_predictions

if TYPE_CHECKING:
    import keras

_Z_95 = 1.959963984540054
"""The 97.5% quantile of the standard normal distribution."""


class Interval(Frozen):
    """A 95% confidence interval of a share, both ends in [0, 1]."""

    low: float
    high: float


class Evidence(Frozen):
    """Everything that promotion judges a candidate by."""

    test: Evaluation
    test_count: int
    train_accuracy: float
    """Of the same weights, dropout off, on all rows of the training folder."""
    latency: Latency
    train_time_s: float

    @property
    def gap(self) -> float:
        """Training accuracy minus test accuracy."""
        # Rounded, so that 0.9999 - 0.9899 is 0.01 and not 0.010000000000000009.
        return round(self.train_accuracy - self.test.accuracy, 12)

    @property
    def standard_error(self) -> float:
        """Of the test accuracy, sqrt(p (1 - p) / n)."""
        accuracy = self.test.accuracy
        return math.sqrt(accuracy * (1 - accuracy) / self.test_count)

    @property
    def interval(self) -> Interval:
        """Wilson's 95% interval of the test accuracy."""
        return wilson_interval(self.test.accuracy, self.test_count)

    @property
    def metrics(self) -> dict[str, float]:
        """The figures by the names that gates, JSON and MLflow use; averages are macro."""
        return {
            **test_metrics(self.test),
            "test_accuracy_standard_error": self.standard_error,
            "test_accuracy_low": self.interval.low,
            "test_accuracy_high": self.interval.high,
            "train_accuracy": self.train_accuracy,
            "train_test_gap": self.gap,
            "latency_p50_ms": self.latency.p50_ms,
            "latency_p95_ms": self.latency.p95_ms,
            "latency_p99_ms": self.latency.p99_ms,
            "train_time_s": self.train_time_s,
        }


def gather(
    candidate: Candidate,
    model: "keras.Model",
    model_path: Path,
    before_look: Callable[[], None],
) -> Evidence:
    """Measures the candidate; the test rows come last.

    Args:
        candidate: the trial that `model` belongs to.
        model: the candidate's model, loaded from `model_path`.
        model_path: its verified file, for measuring the latency in a process of its own.
        before_look: called once, right before the test folder is opened.
    """
    predictor = Predictor(model, candidate.pixels)
    train_accuracy = _accuracy(predictor, candidate.dataset.train)
    latency = measure(model_path, candidate.model_sha256, candidate.model)
    return Evidence(
        test=look(predictor, candidate.dataset, before_look),
        test_count=candidate.dataset.test_count,
        train_accuracy=train_accuracy,
        latency=latency,
        train_time_s=candidate.train_time_s,
    )


def look(predictor: Predictor, dataset: DatasetInfo, before_look: Callable[[], None]) -> Evaluation:
    """Opens the test rows, once, and scores the model on all of them."""
    before_look()
    images, labels = read_arrays(dataset.test)
    return evaluate_predictions(predictor.probabilities(images), labels, dataset.classes)


def test_metrics(test: Evaluation) -> dict[str, float]:
    """What a look at the test set told, by the names that everyone uses; averages are macro."""
    return {
        "test_accuracy": test.accuracy,
        "test_loss": test.loss,
        "test_precision": test.macro.precision,
        "test_recall": test.macro.recall,
        "test_f1": test.macro.f1,
    }


def wilson_interval(share: float, count: int) -> Interval:
    """Wilson's score interval at 95%, which holds near 0 and 1 where the normal one does not.

    Source: E. B. Wilson, JASA 22 (1927), 209-212; recommended by Brown, Cai and DasGupta,
    Statistical Science 16 (2001), 101-133.
    """
    z2 = _Z_95**2
    centre = (share + z2 / (2 * count)) / (1 + z2 / count)
    half = _Z_95 * math.sqrt(share * (1 - share) / count + z2 / (4 * count**2)) / (1 + z2 / count)
    return Interval(low=max(0.0, centre - half), high=min(1.0, centre + half))


def _accuracy(predictor: Predictor, folder: Path) -> float:
    images, labels = read_arrays(folder)
    return float(np.mean(predictor.probabilities(images).argmax(axis=1) == labels))
