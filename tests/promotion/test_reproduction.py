"""Which differences from the recorded figures are rounding, and which are another network."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from tuner.promotion.candidate import Validated
from tuner.promotion.judging.reproduction import compare
from tuner.training.plan import Precision
from tuner.training.scores import accuracy, confusion_matrix, cross_entropy

ROWS, CLASSES = 40, 3
SPACING: dict[Precision, float] = {"float32": 2**-10, "bfloat16": 2**-7}
LABELS = np.arange(ROWS) % CLASSES

logits = arrays(np.float64, (ROWS, CLASSES), elements=st.floats(-20, 20))
shifts = arrays(np.float64, (ROWS, CLASSES), elements=st.floats(-0.99, 0.99))


def softmax(values: NDArray[np.float64]) -> NDArray[np.float32]:
    powers = np.exp(values - values.max(axis=1, keepdims=True))
    shares: NDArray[np.float32] = (powers / powers.sum(axis=1, keepdims=True)).astype(np.float32)
    return shares


def recorded(probabilities: NDArray[np.float32]) -> Validated:
    confusion = confusion_matrix(LABELS, probabilities.argmax(axis=1), CLASSES)
    return Validated(
        rows=ROWS,
        split_seed=0,
        loss=cross_entropy(probabilities, LABELS),
        accuracy=accuracy(confusion),
    )


@given(
    logits=logits,
    shifts=shifts,
    precision=st.sampled_from(list(SPACING)),
    scale=st.sampled_from([0.1, 1, 2]),
)
def test_rounding_within_the_noise_of_a_precision_is_never_another_network(
    logits: NDArray[np.float64], shifts: NDArray[np.float64], precision: Precision, scale: float
) -> None:
    logits = scale * logits
    apart = np.maximum(10, np.ptp(logits, axis=1, keepdims=True))
    # A softmax moves by no more than twice what its inputs move by, in logarithms.
    rounded = softmax(logits + shifts * SPACING[precision] / 10 * apart)
    assert compare(softmax(logits), LABELS, recorded(rounded), precision).passed


@given(logits=logits, row=st.integers(0, ROWS - 1))
def test_a_clear_row_that_changes_its_class_is_another_network(
    logits: NDArray[np.float64], row: int
) -> None:
    clear = logits.copy()
    clear[np.arange(ROWS), LABELS] = logits.max(axis=1) + 1
    wrong = clear.copy()
    wrong[row] = np.roll(clear[row], 1)
    assert compare(softmax(clear), LABELS, recorded(softmax(clear)), "float32").passed
    assert not compare(softmax(clear), LABELS, recorded(softmax(wrong)), "float32").passed


def test_the_same_answers_with_less_confidence_are_another_network() -> None:
    sure = 4 * np.eye(CLASSES)[LABELS]
    found = compare(softmax(sure / 2), LABELS, recorded(softmax(sure)), "bfloat16")
    assert found.accuracy == found.recorded_accuracy
    assert not found.passed


def test_what_is_not_a_number_is_another_network() -> None:
    nothing = np.full((ROWS, CLASSES), np.nan, np.float32)
    known = recorded(softmax(np.eye(CLASSES)[LABELS]))
    assert not compare(nothing, LABELS, known, "float32").passed
