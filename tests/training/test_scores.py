from random import Random
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst
from numpy.typing import NDArray
from sklearn import metrics

from tuner.training import scores
from tuner.training.plan import ConfidentError

CLASSES = ("nought", "one", "two", "three")

Labels = NDArray[np.int64]
Probabilities = NDArray[np.float64]


def _labels(rows: int) -> st.SearchStrategy[Labels]:
    return npst.arrays(np.int64, rows, elements=st.integers(0, len(CLASSES) - 1))


@st.composite
def predictions(draw: st.DrawFn) -> tuple[Labels, Labels]:
    """True and predicted classes of the same rows; some classes may be missing from either."""
    rows = draw(st.integers(1, 30))
    return draw(_labels(rows)), draw(_labels(rows))


@st.composite
def forecasts(draw: st.DrawFn) -> tuple[Labels, Probabilities]:
    """True classes and a distribution over the classes for each row."""
    labels = draw(_labels(draw(st.integers(1, 30))))
    shape = (len(labels), len(CLASSES))
    weights = draw(npst.arrays(np.float64, shape, elements=st.floats(0.001, 1)))
    return labels, weights / weights.sum(axis=1, keepdims=True)


@given(forecasts(), st.randoms())
def test_confident_errors_are_those_off_the_diagonal_of_the_confident_joint(
    forecast: tuple[Labels, Probabilities], random: Random
) -> None:
    labels, probabilities = forecast
    rows = np.array(random.sample(range(100), len(labels)))
    expected: list[Any] = []
    for row, label, own in zip(rows, labels, probabilities, strict=True):
        confident = [
            other
            for other in range(len(CLASSES))
            if (labels == other).any()
            and own[other] >= probabilities[labels == other, other].mean()
        ]
        if int(own.argmax()) in confident and own.argmax() != label:
            expected.append((row, label, int(own.argmax()), pytest.approx(own.max(), abs=1e-6)))
    found = scores.confident_errors(probabilities, labels, rows)
    assert [tuple(error) for error in found] == expected


def test_a_probable_label_error_is_found_and_an_unsure_error_is_not() -> None:
    certain = np.eye(4)[[0, 0, 0, 1, 1, 1]] * 0.88 + 0.03
    unsure = np.array([[0.52, 0.4, 0.04, 0.04]])
    probabilities = np.vstack([certain, unsure])
    labels = np.array([0, 0, 1, 1, 1, 1, 1])
    (found,) = scores.confident_errors(probabilities, labels, np.arange(7) + 10)
    assert found == ConfidentError(row=12, label=1, predicted=0, probability=0.91)


def test_of_too_many_confident_errors_the_most_probable_ones_are_kept(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(scores, "MOST_ERRORS", 2)
    right = np.eye(3)[[0, 1, 2]]
    wrong = np.array([[0.1, 0.9, 0], [0, 0.97, 0.03], [0.05, 0.95, 0]])
    labels = np.array([0, 1, 2, 0, 0, 0])
    means = np.vstack([right * 0.6, wrong])
    found = scores.confident_errors(means, labels, np.arange(6))
    assert [error.row for error in found] == [4, 5]


@given(predictions())
def test_the_confusion_matrix_is_scikit_learns(rows: tuple[Labels, Labels]) -> None:
    confusion = scores.confusion_matrix(*rows, len(CLASSES))
    expected = metrics.confusion_matrix(*rows, labels=range(len(CLASSES)))
    np.testing.assert_array_equal(confusion, expected)


@given(predictions())
def test_accuracy_and_macro_f1_are_scikit_learns(rows: tuple[Labels, Labels]) -> None:
    confusion = scores.confusion_matrix(*rows, len(CLASSES))
    assert scores.accuracy(confusion) == pytest.approx(metrics.accuracy_score(*rows))
    assert scores.macro_f1(confusion) == pytest.approx(metrics.f1_score(*rows, average="macro"))


@given(forecasts())
def test_cross_entropy_is_scikit_learns(rows: tuple[Labels, Probabilities]) -> None:
    labels, probabilities = rows
    expected = metrics.log_loss(labels, probabilities, labels=range(len(CLASSES)))
    assert scores.cross_entropy(probabilities, labels) == pytest.approx(expected)


def test_a_certain_mistake_costs_what_it_costs_in_keras() -> None:
    certain = np.array([[1.0, 0.0], [1.0, 0.0]])
    assert scores.cross_entropy(certain, np.array([1, 0])) == pytest.approx(-np.log(1e-7) / 2)


def test_a_probability_that_is_no_number_shows_in_the_loss() -> None:
    broken = np.array([[0.5, 0.5], [np.nan, np.nan]], np.float32)
    assert np.isnan(scores.cross_entropy(broken, np.array([1, 0])))


@given(forecasts())
def test_an_evaluation_agrees_with_scikit_learns_report(rows: tuple[Labels, Probabilities]) -> None:
    labels, probabilities = rows
    evaluation = scores.evaluate_predictions(probabilities, labels, CLASSES)
    predicted = probabilities.argmax(axis=1)
    names = np.array(CLASSES)
    report = metrics.classification_report(
        names[labels], names[predicted], output_dict=True, zero_division=0
    )
    for one in (*evaluation.classes, evaluation.macro):
        if one.label in evaluation.absent:
            assert one.label not in report
            continue
        expected = report["macro avg" if one.label == "macro" else one.label]
        assert (one.precision, one.recall, one.f1, one.support) == pytest.approx(
            tuple(expected[key] for key in ("precision", "recall", "f1-score", "support"))
        )
    assert {*report, *evaluation.absent} >= set(CLASSES)
    confusion = scores.confusion_matrix(labels, predicted, len(CLASSES))
    assert evaluation.macro.f1 == scores.macro_f1(confusion)
    assert [one.label for one in evaluation.classes] == list(CLASSES)
    assert evaluation.accuracy == pytest.approx(metrics.accuracy_score(labels, predicted))
    assert evaluation.loss == pytest.approx(scores.cross_entropy(probabilities, labels))
    expected = metrics.confusion_matrix(labels, predicted, labels=range(len(CLASSES)))
    assert evaluation.confusion == tuple(map(tuple, expected.tolist()))


def test_a_perfect_model_is_perfect_where_a_class_is_absent() -> None:
    certain = np.eye(3)[[0, 1, 1]]
    evaluation = scores.evaluate_predictions(certain, np.array([0, 1, 1]), ("a", "b", "c"))
    macro = evaluation.macro
    assert (macro.precision, macro.recall, macro.f1, macro.support) == (1, 1, 1, 3)
    assert evaluation.absent == ("c",)


def test_a_class_without_a_prediction_has_precision_0() -> None:
    probabilities = np.array([[0.9, 0.1], [0.8, 0.2]])
    evaluation = scores.evaluate_predictions(probabilities, np.array([0, 1]), ("a", "b"))
    assert [one.precision for one in evaluation.classes] == [0.5, 0.0]
    assert evaluation.confusion == ((1, 0), (1, 0))
