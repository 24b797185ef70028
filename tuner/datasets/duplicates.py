"""Images that say nothing of their class, because the same pixels have another label too."""

import logging
from collections import defaultdict

from tuner.datasets.dataset import Split
from tuner.errors import DataError

_MOST = 0.5
"""A larger share of images that are known under two classes teaches nothing and judges nobody."""

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
    shared, kinds = _shared(split)
    count = len(split.labels)
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


def _shared(split: Split) -> tuple[int, int]:
    """How many images have the pixels of one with another label, and how many images differ."""
    labels = defaultdict(set)
    rows = [hash(image.tobytes()) for image in split.images]
    for row, label in zip(rows, split.labels.tolist(), strict=True):
        labels[row].add(label)
    return sum(len(labels[row]) > 1 for row in rows), len(labels)
