"""Splits rows into training and validation rows, stratified, the same way in every version."""

from typing import Any

import numpy as np
import numpy.typing as npt

from tuner.errors import DataError

Indices = npt.NDArray[np.int64]


def stratified_split(
    labels: npt.NDArray[Any], validation: int, seed: int
) -> tuple[Indices, Indices]:
    """Chooses `validation` rows so that every class gives its share, within one row.

    Shares are rounded by largest remainders. A class of two rows or more keeps at least one
    for training, and one of a single row gives it up last; where classes are that small, a
    share may be off by more. The same arguments give the same rows on every version of NumPy.

    Args:
        labels: the class of each row, shape (N,).
        validation: how many rows to hold out; 0 holds out none.
        seed: not negative; chooses among the rows of a class.

    Returns:
        Training and validation rows, both ascending, which together are all rows.

    Raises:
        DataError: so many rows cannot be held out.
    """
    classes, inverse, counts = np.unique(labels, return_inverse=True, return_counts=True)
    shares = _shares(counts.astype(np.int64), validation)
    # Only the legacy generator promises its stream across versions (NEP 19).
    random = np.random.RandomState(np.random.MT19937(seed))
    held_out = np.zeros(len(labels), dtype=bool)
    for index in range(len(classes)):
        rows = random.permutation(np.flatnonzero(inverse == index))
        held_out[rows[: shares[index]]] = True
    return np.flatnonzero(~held_out), np.flatnonzero(held_out)


def _shares(counts: Indices, validation: int) -> Indices:
    """The number of rows that each class gives; their sum is exactly `validation`."""
    total = int(counts.sum())
    single = counts == 1
    most = np.where(single, 1, counts - 1)
    limit = min(int(most.sum()), total - 1)
    if not 0 <= validation <= limit:
        raise DataError(
            f"validation: must be between 0 and {limit} to leave training rows of "
            f"{len(counts)} classes among {total}, got {validation}"
        )
    if validation == 0:
        return np.zeros_like(counts)
    shares, remainders = np.divmod(validation * counts, total)
    order = np.lexsort((-remainders, single))
    while missing := validation - int(shares.sum()):
        takers = order[shares[order] < most[order]][:missing]
        shares[takers] += 1
    return shares
