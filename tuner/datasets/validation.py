"""Checks the rules for data sets, and brings one into the standard form."""

import logging
from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import Any, cast

import numpy as np
import numpy.typing as npt

from tuner.datasets.dataset import Dataset, Split
from tuner.errors import DataError, encodable

Array = npt.NDArray[Any]

PLAIN_FORM = "((x_train, y_train), (x_test, y_test))"

_MOST = 0.5
"""The largest share of images that may occur in two classes, and of a class that may be one image
without a warning."""
_ENOUGH = 10
"""The least size of a class for a warning about repeated images."""

_log = logging.getLogger(__name__)


def check_distinct(where: str, split: Split) -> None:
    """Checks that most images do not occur under different labels; warns of fewer such images.

    Hashes each row once, which takes a fraction of a second for 60,000 images of 28x28.

    Args:
        where: data set and part, for messages.
        split: images and labels in the standard form.

    Raises:
        DataError: all images are the same, or more than half occur under two labels.
    """
    rows, labels = [hash(image.tobytes()) for image in split.images], split.labels.tolist()
    shared, kinds = _shared(rows, labels)
    count = len(labels)
    _report_repeated(where, rows, labels)
    if not shared:
        return
    if kinds == 1:
        raise DataError(
            f"{where}: all {count:,} images are the same, under different labels; were they drawn "
            "in one colour on a transparent background, state a background that differs from it"
        )
    finding = f"{where}: {shared:,} of {count:,} images are identical to an image of another class"
    if shared > _MOST * count:
        raise DataError(f"{finding}; at most half may be")
    _log.warning("%s", finding)


def _shared(rows: Sequence[int], labels: Sequence[int]) -> tuple[int, int]:
    """The number of images that occur under two labels, and the number of different images."""
    known: dict[int, set[int]] = defaultdict(set)
    for row, label in zip(rows, labels, strict=True):
        known[row].add(label)
    return sum(len(known[row]) > 1 for row in rows), len(known)


def _report_repeated(where: str, rows: Sequence[int], labels: Sequence[int]) -> None:
    """Warns of a class that is mostly one image, such as ink on a background of the same colour."""
    totals = Counter(labels)
    for (label, _), count in Counter(zip(labels, rows, strict=True)).items():
        if totals[label] >= _ENOUGH and count > _MOST * totals[label]:
            _log.warning(
                "%s: %s of %s images of class %s are one and the same",
                *(where, f"{count:,}", f"{totals[label]:,}", label),
            )


def standardize(name: str, returned: object, source: str) -> Dataset:
    """Checks what a data set function returned and brings it into the standard form.

    Args:
        name: the name of the data set, for messages.
        returned: a `Dataset`, or Keras' plain form `((x_train, y_train), (x_test, y_test))`,
            whose classes are numbered "0" to "k-1" for k different labels.
        source: the source of a plain form, which does not state it.

    Returns:
        Images as uint8 or float32 of shape (N, height, width, channels), labels as int64 of
        shape (N,), both contiguous.

    Raises:
        DataError: a rule is broken; the message names data set, part, rule and value.
    """
    where = f"data set {name!r}"
    given = _unpack(where, returned, source)
    train = _standardize_split(f"{where}: train", given.train)
    test = _standardize_split(f"{where}: test", given.test)
    _check_alike(where, train, test)
    classes = tuple(str(label) for label in given.classes) or _numbered_classes(train, test)
    _check_classes(where, classes, train, test)
    check_distinct(f"{where}: train", train)
    check_distinct(f"{where}: test", test)
    files = tuple(encodable(str(file)) for file in given.files)
    if files and len(files) != len(train.labels):
        raise DataError(
            f"{where}: files must name one file for each training image, "
            f"got {len(files)} files and {len(train.labels)} images"
        )
    return Dataset(train, test, classes, given.source, given.reading, files)


def _unpack(where: str, returned: object, source: str) -> Dataset:
    if isinstance(returned, Dataset):
        return returned
    try:
        (x_train, y_train), (x_test, y_test) = cast("Any", returned)
    except (TypeError, ValueError) as error:
        raise DataError(
            f"{where}: its function must return a Dataset or {PLAIN_FORM}, "
            f"got {type(returned).__name__}"
        ) from error
    return Dataset(Split(x_train, y_train), Split(x_test, y_test), (), source)


def _standardize_split(where: str, split: Split) -> Split:
    images = _standardize_images(f"{where} images", split.images)
    labels = _standardize_labels(f"{where} labels", split.labels)
    if len(images) != len(labels):
        raise DataError(
            f"{where}: images and labels must be equally many, "
            f"got {len(images)} images and {len(labels)} labels"
        )
    return Split(images, labels)


def _standardize_images(where: str, given: object) -> Array:
    images = _array(where, given)
    if images.ndim not in (3, 4):
        raise DataError(
            f"{where}: must have shape (N, height, width) or (N, height, width, channels), "
            f"got {images.shape}"
        )
    if images.size == 0:
        raise DataError(f"{where}: must not be empty, got shape {images.shape}")
    whole = np.issubdtype(images.dtype, np.integer)
    if not whole and not np.issubdtype(images.dtype, np.floating):
        raise DataError(f"{where}: must be whole or floating-point numbers, got {images.dtype}")
    _check_pixels(where, images, 255 if whole else 1)
    channels = images if images.ndim == 4 else images[..., np.newaxis]
    return np.ascontiguousarray(channels, dtype=np.uint8 if whole else np.float32)


def _check_pixels(where: str, images: Array, highest: int) -> None:
    low, high = images.min(), images.max()  # NaN if any pixel is NaN
    if not (np.isfinite(low) and np.isfinite(high)):
        bad = low if not np.isfinite(low) else high
        raise DataError(f"{where}: must be finite, got {bad}")
    if low < 0 or high > highest:
        raise DataError(
            f"{where}: {images.dtype} pixels must lie in [0, {highest}], "
            f"got {low if low < 0 else high}"
        )


def _standardize_labels(where: str, given: object) -> Array:
    labels = _array(where, given)
    column = labels.ndim == 2 and labels.shape[1] == 1
    if labels.ndim != 1 and not column:
        raise DataError(f"{where}: must have shape (N,) or (N, 1), got {labels.shape}")
    if labels.size == 0:
        raise DataError(f"{where}: must not be empty, got shape {labels.shape}")
    if not np.issubdtype(labels.dtype, np.integer):
        raise DataError(f"{where}: must be whole numbers, got {labels.dtype}")
    return np.ascontiguousarray(labels.reshape(-1), dtype=np.int64)


def _array(where: str, given: object) -> Array:
    try:
        return np.asarray(given)
    except (TypeError, ValueError) as error:
        raise DataError(f"{where}: must be an array, got {type(given).__name__}") from error


def _check_alike(where: str, train: Split, test: Split) -> None:
    if train.images.shape[1:] != test.images.shape[1:]:
        raise DataError(
            f"{where}: training and test images must have one shape, "
            f"got {train.images.shape[1:]} and {test.images.shape[1:]}"
        )
    if train.images.dtype != test.images.dtype:
        raise DataError(
            f"{where}: training and test images must have one type, "
            f"got {train.images.dtype} and {test.images.dtype}"
        )


def _numbered_classes(train: Split, test: Split) -> tuple[str, ...]:
    labels = np.union1d(train.labels, test.labels)
    return tuple(str(index) for index in range(len(labels)))


def _check_classes(where: str, classes: tuple[str, ...], train: Split, test: Split) -> None:
    if len(set(classes)) != len(classes):
        raise DataError(f"{where}: class names must differ, got {', '.join(classes)}")
    if strange := [name for name in classes if name != encodable(name)]:
        raise DataError(
            f"{where}: class names must be text in UTF-8, got '{strange[0]}'; rename the class, "
            "which in image-folder is a folder"
        )
    for part, labels in (("train", train.labels), ("test", test.labels)):
        low, high = labels.min(), labels.max()
        if low < 0 or high >= len(classes):
            raise DataError(
                f"{where}: {part} labels: must lie in [0, {len(classes)}) for "
                f"{len(classes)} classes, got {low if low < 0 else high}"
            )
    if train.labels.min() == train.labels.max():
        raise DataError(
            f"{where}: train labels: must hold at least two classes, got only {train.labels[0]}"
        )
