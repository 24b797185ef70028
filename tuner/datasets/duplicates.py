"""Images that say little of their class: the same pixels under two labels, or again and again."""

import logging
from collections import Counter, defaultdict
from collections.abc import Sequence

from tuner.datasets.dataset import Split
from tuner.errors import DataError

_MOST = 0.5
"""A larger share of images that are known under two classes teaches nothing and judges nobody; one
image that is a larger share of its class is reported."""
_ENOUGH = 10
"""Of a class of fewer images a repeated one says little."""

_log = logging.getLogger(__name__)


def check_distinct(where: str, split: Split) -> None:
    """Refuses images of which most are the very same under different labels; reports fewer.

    One pass hashes each row, a fraction of a second for 60,000 images of 28x28.

    Args:
        where: data set and part, for messages.
        split: images and labels in the standard form.

    Raises:
        DataError: all images are the same, or more than half are known under two labels.
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
    said = f"{where}: {shared:,} of {count:,} images have the very pixels of one of another class"
    if shared > _MOST * count:
        raise DataError(f"{said}; at most half may")
    _log.warning("%s", said)


def _shared(rows: Sequence[int], labels: Sequence[int]) -> tuple[int, int]:
    """How many images have the pixels of one with another label, and how many images differ."""
    known: dict[int, set[int]] = defaultdict(set)
    for row, label in zip(rows, labels, strict=True):
        known[row].add(label)
    return sum(len(known[row]) > 1 for row in rows), len(known)


def _report_repeated(where: str, rows: Sequence[int], labels: Sequence[int]) -> None:
    """Warns of a class that is mostly one image, such as ink on a background of its colour."""
    totals = Counter(labels)
    for (label, _), count in Counter(zip(labels, rows, strict=True)).items():
        if totals[label] >= _ENOUGH and count > _MOST * totals[label]:
            _log.warning(
                "%s: %s of %s images of class %s are one and the same",
                *(where, f"{count:,}", f"{totals[label]:,}", label),
            )
