"""Evidence: what a candidate is worth on data that no trial was chosen by.

The only place that opens a data set's test folder, and each opening is written down right before.
"""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from tuner.datasets.store import DatasetInfo, read_arrays
from tuner.inference.latency import Latency, measure
from tuner.inference.predictor import Predictor
from tuner.promotion.candidate import Candidate
from tuner.spec.section import Frozen
from tuner.training.plan import Evaluation
from tuner.training.scores import evaluate_predictions

if TYPE_CHECKING:
    from tuner.storage.test_set_accesses import TestSetAccesses

_Z_95 = 1.959963984540054
"""The 97.5% quantile of the standard normal distribution."""


class Interval(Frozen):
    """A 95% confidence interval of a share, both ends in [0, 1]."""

    low: float
    high: float


class Groundwork(Frozen):
    """What is known of a candidate before the test set is opened."""

    train_accuracy: float
    """Of the kept weights, dropout off, on all rows of the training folder."""
    latency: Latency
    train_time_s: float

    @property
    def metrics(self) -> dict[str, float]:
        """The figures by the names that gates, JSON and MLflow use."""
        return {
            "train_accuracy": self.train_accuracy,
            "latency_p50_ms": self.latency.p50_ms,
            "latency_p95_ms": self.latency.p95_ms,
            "latency_p99_ms": self.latency.p99_ms,
            "train_time_s": self.train_time_s,
        }


class Evidence(Groundwork):
    """Everything that promotion judges a candidate by."""

    test: Evaluation
    test_count: int

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
            "train_test_gap": self.gap,
            **super().metrics,
        }


@dataclass(frozen=True)
class HeldOut:
    """The test rows of a data set, for one command that scores models on them."""

    dataset: DatasetInfo
    looks: "TestSetAccesses"
    trial: int
    """For whose sake they are opened."""
    command: str

    def score(self, predictor: Predictor, sha256: str) -> Evaluation:
        """Opens the rows, once, and scores the model of the file with this hash on all of them."""
        look = self.looks.begin(self.trial, self.command, self.dataset.digest, sha256)
        images, labels = read_arrays(self.dataset.test)
        found = evaluate_predictions(predictor.probabilities(images), labels, self.dataset.classes)
        self.looks.complete(look, test_metrics(found))
        return found

    def known_accuracy(self, sha256: str) -> float | None:
        """Of the file with this hash, if an earlier look told it."""
        told = self.looks.evidence_of(self.dataset.digest, sha256)
        return None if told is None else told["test_accuracy"]


def prepare(
    candidate: Candidate, predictor: Predictor, model_file: Path, sha256: str
) -> Groundwork:
    """Measures what needs no test row, of the model that will be registered.

    Args:
        candidate: the trial that the model belongs to.
        predictor: the model, loaded from `model_file`.
        model_file: for measuring the latency in a process of its own.
        sha256: of this file.
    """
    return Groundwork(
        train_accuracy=_accuracy(predictor, candidate.dataset.train),
        latency=measure(model_file, sha256, candidate.model),
        train_time_s=candidate.train_time_s,
    )


def complete(groundwork: Groundwork, test: Evaluation, test_count: int) -> Evidence:
    """Adds what the test set told."""
    return Evidence(**dict(groundwork), test=test, test_count=test_count)


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
