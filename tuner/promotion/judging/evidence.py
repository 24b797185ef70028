"""Evidence: a candidate's figures on data by which no trial was chosen.

The only module that opens a data set's test folder. Each access is recorded before it.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from tuner.datasets.store import DatasetInfo, read_arrays
from tuner.inference.latency import Latency, measure
from tuner.inference.predictor import Predictor
from tuner.promotion.candidate import Candidate
from tuner.spec.section import Frozen
from tuner.statistics import Interval, wilson_interval
from tuner.training.plan import Evaluation
from tuner.training.scores import evaluate_predictions

if TYPE_CHECKING:
    from tuner.storage.test_set_accesses import TestSetAccesses


class Groundwork(Frozen):
    """The figures of a candidate that need no test row."""

    train_accuracy: float
    """The accuracy of the kept weights, without dropout, on all rows of the training folder."""
    latency: Latency
    train_time_s: float
    model_mb: float
    """The size of the file that will be registered, in megabytes (1,000,000 bytes)."""
    parameters: int
    """The number of the network's parameters, with those that are not trained."""

    @property
    def metrics(self) -> dict[str, float]:
        """The figures by their names in JSON and MLflow."""
        return {
            "train_accuracy": self.train_accuracy,
            "latency_p50_ms": self.latency.p50_ms,
            "latency_p95_ms": self.latency.p95_ms,
            "latency_p99_ms": self.latency.p99_ms,
            "train_time_s": self.train_time_s,
            "model_mb": self.model_mb,
            "parameters": float(self.parameters),
        }


class Evidence(Groundwork):
    """All figures by which promotion judges a candidate."""

    test: Evaluation
    test_count: int

    @property
    def gap(self) -> float:
        """The training accuracy minus the test accuracy."""
        # Rounded, so that 0.9999 - 0.9899 is 0.01 and not 0.010000000000000009.
        return round(self.train_accuracy - self.test.accuracy, 12)

    @property
    def standard_error(self) -> float:
        """The standard error of the test accuracy, sqrt(p (1 - p) / n)."""
        accuracy = self.test.accuracy
        return math.sqrt(accuracy * (1 - accuracy) / self.test_count)

    @property
    def interval(self) -> Interval:
        """Wilson's 95% interval of the test accuracy."""
        return wilson_interval(self.test.accuracy, self.test_count)

    @property
    def metrics(self) -> dict[str, float]:
        """The figures by their names in JSON and MLflow; averages are macro."""
        return {
            **test_metrics(self.test),
            "test_accuracy_standard_error": self.standard_error,
            "test_accuracy_low": self.interval.low,
            "test_accuracy_high": self.interval.high,
            "train_test_gap": self.gap,
            **super().metrics,
        }


@dataclass(frozen=True)
class Answers:
    """A model's answers to all test rows."""

    labels: NDArray[np.integer]
    """The true classes, by number, of shape (N,)."""
    predicted: NDArray[np.integer]
    """The classes that the model holds to be the likeliest, of shape (N,)."""
    evaluation: Evaluation

    @property
    def right(self) -> NDArray[np.bool_]:
        """Which rows the model has right, of shape (N,)."""
        right: NDArray[np.bool_] = np.equal(self.labels, self.predicted)
        return right


@dataclass(frozen=True)
class HeldOut:
    """The test rows of a data set, for one command that scores models on them."""

    dataset: DatasetInfo
    accesses: "TestSetAccesses"
    trial: int
    """The number of the trial for which the rows are opened."""
    command: str

    def score(self, predictor: Predictor, sha256: str) -> Evaluation:
        """Records an access, opens the rows and scores the model with this file hash."""
        return self.answers(predictor, sha256).evaluation

    def answers(self, predictor: Predictor, sha256: str) -> Answers:
        """The same, with the model's answer to each row."""
        access = self.accesses.begin(self.trial, self.command, self.dataset.digest, sha256)
        images, labels = read_arrays(self.dataset.test)
        probabilities = predictor.probabilities(images)
        found = evaluate_predictions(probabilities, labels, self.dataset.classes)
        self.accesses.complete(access, test_metrics(found))
        return Answers(np.asarray(labels), probabilities.argmax(axis=1), found)


def answered_images(dataset: DatasetInfo, rows: Sequence[int]) -> NDArray[Any]:
    """The test images with these indices, shape (N, H, W, C), to show what was answered to them.

    Records no access: what the caller shows are the answers of one that is recorded.
    """
    images: NDArray[Any] = read_arrays(dataset.test)[0][list(rows)]
    return images


def prepare(
    candidate: Candidate, predictor: Predictor, model_file: Path, sha256: str
) -> Groundwork:
    """Measures the figures that need no test row, with the model that will be registered.

    Args:
        candidate: the trial that the model belongs to.
        predictor: the model, loaded from `model_file`.
        model_file: the model's file, for the process that measures the latency.
        sha256: the hash of this file.
    """
    return Groundwork(
        train_accuracy=_accuracy(predictor, candidate.dataset.train),
        latency=measure(model_file, sha256, candidate.model),
        train_time_s=candidate.train_time_s,
        model_mb=model_file.stat().st_size / 1e6,
        parameters=predictor.parameters,
    )


def complete(groundwork: Groundwork, test: Evaluation, test_count: int) -> Evidence:
    """Adds the figures on the test set."""
    return Evidence(**dict(groundwork), test=test, test_count=test_count)


def test_metrics(test: Evaluation) -> dict[str, float]:
    """The figures on the test set by their names in JSON and MLflow; averages are macro."""
    return {
        "test_accuracy": test.accuracy,
        "test_loss": test.loss,
        "test_precision": test.macro.precision,
        "test_recall": test.macro.recall,
        "test_worst_recall": worst_recall(test),
        "test_f1": test.macro.f1,
    }


def worst_recall(test: Evaluation) -> float:
    """The lowest recall of the classes that the test set has."""
    return min(scores.recall for scores in test.classes if scores.support)


def _accuracy(predictor: Predictor, folder: Path) -> float:
    images, labels = read_arrays(folder)
    return float(np.mean(predictor.probabilities(images).argmax(axis=1) == labels))
