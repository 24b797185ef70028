import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tuner.datasets.split import stratified_split
from tuner.errors import DataError

Labels = npt.NDArray[np.int64]

any_labels = st.lists(st.integers(0, 5), min_size=2, max_size=80).map(np.array)
many_labels = st.lists(st.integers(10, 40), min_size=2, max_size=6).map(
    lambda counts: np.repeat(np.arange(len(counts)), counts)
)
seeds = st.integers(0, 2**32 - 1)


def possible(labels: Labels) -> int:
    """The most rows that can be held out."""
    _, counts = np.unique(labels, return_counts=True)
    return min(len(labels) - int((counts > 1).sum()), len(labels) - 1)


@given(any_labels, seeds, st.data())
def test_rows_are_divided_exactly(labels: Labels, seed: int, data: st.DataObject) -> None:
    wanted = data.draw(st.integers(0, possible(labels)))
    train, validation = stratified_split(labels, wanted, seed)
    assert len(validation) == wanted
    assert train.dtype == validation.dtype == np.int64
    assert np.array_equal(np.sort(np.concatenate((train, validation))), np.arange(len(labels)))
    assert (np.diff(train) > 0).all()
    assert (np.diff(validation) > 0).all()


@given(any_labels, seeds, st.data())
def test_classes_of_two_keep_a_training_row(labels: Labels, seed: int, data: st.DataObject) -> None:
    train, _ = stratified_split(labels, data.draw(st.integers(0, possible(labels))), seed)
    classes, counts = np.unique(labels, return_counts=True)
    assert set(classes[counts > 1]) <= set(labels[train])


@given(many_labels, seeds, st.data())
def test_each_class_gives_its_share_to_within_one(
    labels: Labels, seed: int, data: st.DataObject
) -> None:
    wanted = data.draw(st.integers(0, len(labels) // 2))
    _, validation = stratified_split(labels, wanted, seed)
    exact = np.bincount(labels) * wanted / len(labels)
    given_up = np.bincount(labels[validation], minlength=len(exact))
    assert (np.abs(given_up - exact) < 1).all()


@given(many_labels, seeds)
def test_the_same_seed_gives_the_same_rows(labels: Labels, seed: int) -> None:
    first, again = (stratified_split(labels, 5, seed) for _ in range(2))
    assert np.array_equal(first[1], again[1])


def test_rows_never_change_between_versions() -> None:
    labels = np.arange(40) % 4
    assert stratified_split(labels, 6, seed=7)[1].tolist() == [16, 20, 23, 29, 30, 33]


def test_another_seed_gives_other_rows() -> None:
    labels = np.arange(1000) % 10
    one, other = (stratified_split(labels, 100, seed)[1] for seed in (0, 1))
    assert not np.array_equal(one, other)


@given(any_labels, st.integers(-5, 200))
def test_what_cannot_be_held_out_is_refused(labels: Labels, wanted: int) -> None:
    if 0 <= wanted <= possible(labels):
        stratified_split(labels, wanted, 0)
        return
    with pytest.raises(DataError, match=rf"validation: must be between 0 and .* got {wanted}"):
        stratified_split(labels, wanted, 0)
