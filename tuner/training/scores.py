"""Turns predictions into scores: the quick ones of every epoch, and the full evaluation.

All follow from the confusion matrix by scikit-learn's definitions, against which they are tested.
A trainer does not import scikit-learn: that takes longer than all the scores of a study.
"""

import numpy as np
from numpy.typing import NDArray

from tuner.training.plan import ClassScores, ConfidentError, Evaluation

Confusion = NDArray[np.int64]

_DIGITS = 6
"""The decimal places of a stored probability, as many as float32 has."""
MOST_ERRORS = 5000
"""The most confident errors of a training, about 130 kB in the database."""


def confusion_matrix(
    labels: NDArray[np.integer], predicted: NDArray[np.integer], classes: int
) -> Confusion:
    """Counts images by true class (row) and predicted class (column).

    Args:
        labels: the true classes, integers of shape (N,).
        predicted: the predicted classes, integers of shape (N,).
        classes: the number of classes.

    Returns:
        int64 of shape (classes, classes).
    """
    cells = labels.astype(np.int64) * classes + predicted
    return np.bincount(cells, minlength=classes * classes).reshape(classes, classes)


def accuracy(confusion: Confusion) -> float:
    """The share of images on the diagonal of `confusion`, shape (classes, classes)."""
    return float(np.trace(confusion) / confusion.sum())


def macro_f1(confusion: Confusion) -> float:
    """The unweighted mean of F1 = 2 TP / (2 TP + FP + FN) over the classes that occur.

    A class that is neither present nor predicted is left out, as in scikit-learn. `confusion` has
    the shape (classes, classes).
    """
    return float(_macro(confusion)[2])


def cross_entropy(probabilities: NDArray[np.floating], labels: NDArray[np.integer]) -> float:
    """The mean cross-entropy in nats, with probabilities clipped to [1e-7, 1] as Keras does.

    If a probability is NaN, so is the loss, which shows divergence.

    Args:
        probabilities: floats of shape (N, classes).
        labels: the true classes, integers of shape (N,).
    """
    likelihood = probabilities[np.arange(len(labels)), labels].astype(np.float64)
    return float(-np.log(likelihood.clip(1e-7, 1.0)).mean())


def evaluate_predictions(
    probabilities: NDArray[np.floating], labels: NDArray[np.integer], classes: tuple[str, ...]
) -> Evaluation:
    """Scores class probabilities, shape (N, classes), against labels, shape (N,).

    A class without a prediction has precision 0, one without an image recall 0. The macro means
    leave out the classes that neither occur nor are predicted (`Evaluation.absent`).
    """
    confusion = confusion_matrix(labels, probabilities.argmax(axis=1), len(classes))
    scores = np.vstack([_class_scores(confusion), confusion.sum(axis=1)])
    return Evaluation(
        accuracy=accuracy(confusion),
        loss=cross_entropy(probabilities, labels),
        confusion=tuple(tuple(int(count) for count in row) for row in confusion),
        classes=tuple(
            _scores(label, column) for label, column in zip(classes, scores.T, strict=True)
        ),
        macro=_scores("macro", np.append(_macro(confusion), len(labels))),
    )


def confident_errors(
    probabilities: NDArray[np.floating], labels: NDArray[np.integer], rows: NDArray[np.integer]
) -> tuple[ConfidentError, ...]:
    """Finds the images that are confidently put into another class than that of their label.

    A network is confident of a class if it gives it at least the mean probability that it gives it
    for the images with that label. Northcutt, Jiang and Chuang, "Confident learning: estimating
    uncertainty in dataset labels" (2021), count such images, off the diagonal of their confident
    joint, as probable label errors. Here the class must also be the most probable one.

    Args:
        probabilities: floats of shape (N, classes), of images that were not trained on.
        labels: the class of each image's label, shape (N,).
        rows: the number of each image, shape (N,).

    Returns:
        The images in their order, none for a class without an image. Of more than `MOST_ERRORS`
        the most probable ones: a network that has so many wrong says little about the labels.
    """
    classes = probabilities.shape[1]
    own = probabilities[np.arange(len(labels)), labels].astype(np.float64)
    present = np.bincount(labels, minlength=classes)
    means = np.bincount(labels, own, minlength=classes) / np.maximum(present, 1)
    thresholds = np.where(present > 0, means, np.inf)
    predicted = probabilities.argmax(axis=1)
    highest = probabilities.max(axis=1)
    found = np.flatnonzero((predicted != labels) & (highest >= thresholds[predicted]))
    found = np.sort(found[np.argsort(-highest[found], kind="stable")[:MOST_ERRORS]])
    return tuple(
        ConfidentError(
            row=int(rows[each]),
            label=int(labels[each]),
            predicted=int(predicted[each]),
            probability=round(float(highest[each]), _DIGITS),
        )
        for each in found
    )


def _macro(confusion: Confusion) -> NDArray[np.float64]:
    """The means of precision, recall and F1 over the classes that occur or are predicted, (3,)."""
    occurs = confusion.sum(axis=0) + confusion.sum(axis=1) > 0
    means: NDArray[np.float64] = _class_scores(confusion)[:, occurs].mean(axis=1)
    return means


def _class_scores(confusion: Confusion) -> NDArray[np.float64]:
    """The precision, recall and F1 of every class, shape (3, classes); 0 if one is undefined."""
    true_positives = np.diag(confusion)
    predicted, present = confusion.sum(axis=0), confusion.sum(axis=1)
    found = np.array([true_positives, true_positives, 2 * true_positives], np.float64)
    return found / np.maximum([predicted, present, predicted + present], 1)


def _scores(label: str, column: NDArray[np.floating]) -> ClassScores:
    precision, recall, f1, support = column
    return ClassScores(
        label=label,
        precision=float(precision),
        recall=float(recall),
        f1=float(f1),
        support=int(support),
    )
