from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from tuner.datasets.dataset import Dataset, Split
from tuner.datasets.validation import standardize
from tuner.errors import DataError

GOOD_X, GOOD_Y = np.arange(36, dtype=np.uint8).reshape(4, 3, 3), np.array([0, 1, 0, 1])
NAN, INF = (np.full((4, 3, 3), value, np.float32) for value in (np.nan, np.inf))

BAD: dict[str, tuple[Any, Any, str]] = {
    "rank 2": (np.zeros((4, 9), np.uint8), GOOD_Y, r"images: must have shape .* got \(4, 9\)"),
    "rank 5": (np.zeros((4, 1, 1, 1, 1)), GOOD_Y, r"images: must have shape .* got \(4, 1,"),
    "no rows": (GOOD_X[:0], GOOD_Y[:0], r"images: must not be empty, got shape \(0, 3, 3\)"),
    "no pixels": (np.zeros((4, 0, 3)), GOOD_Y, r"images: must not be empty"),
    "lengths": (GOOD_X, GOOD_Y[:3], "equally many, got 4 images and 3 labels"),
    "nan": (NAN, GOOD_Y, "images: must be finite, got nan"),
    "inf": (INF, GOOD_Y, "images: must be finite, got inf"),
    "0 to 255 as float": (GOOD_X * 0 + 255.0, GOOD_Y, r"pixels must lie in \[0, 1\], got 255"),
    "negative": (GOOD_X - 0.5, GOOD_Y, r"pixels must lie in \[0, 1\], got -0.5"),
    "wide whole": (GOOD_X + np.int32(256), GOOD_Y, r"int32 pixels must lie in \[0, 255\]"),
    "text": (GOOD_X.astype(str), GOOD_Y, "images: must be whole or floating-point numbers"),
    "objects": (GOOD_X.astype(object), GOOD_Y, "floating-point numbers, got object"),
    "booleans": (GOOD_X.astype(bool), GOOD_Y, "floating-point numbers, got bool"),
    "ragged": ([[1, 2], [3]], GOOD_Y, "images: must be an array, got list"),
    "one-hot": (GOOD_X, np.eye(4, 2), r"labels: must have shape \(N,\) or \(N, 1\), got \(4, 2\)"),
    "float labels": (GOOD_X, GOOD_Y.astype(float), "labels: must be whole numbers, got float64"),
    "negative label": (GOOD_X, GOOD_Y - 1, r"labels: must lie in \[0, \d\) .* got -1"),
    "gap in labels": (GOOD_X, GOOD_Y * 7, r"labels: must lie in \[0, 2\) for 2 classes, got 7"),
    "one class": (GOOD_X, GOOD_Y * 0, "train labels: must hold at least two classes, got only 0"),
}


@pytest.mark.parametrize(("images", "labels", "message"), BAD.values(), ids=BAD)
def test_what_breaks_a_rule_is_refused(images: Any, labels: Any, message: str) -> None:
    with pytest.raises(DataError, match=f"^data set 'mine': .*{message}"):
        standardize("mine", ((images, labels), (images, labels)), "here")


@pytest.mark.parametrize("returned", [None, 3, (1, 2), ((1, 2, 3), (4, 5, 6)), GOOD_X])
def test_another_form_is_refused(returned: object) -> None:
    with pytest.raises(DataError, match="must return a Dataset or"):
        standardize("mine", returned, "here")


def test_training_and_test_images_are_alike() -> None:
    train = (GOOD_X, GOOD_Y)
    with pytest.raises(DataError, match=r"one shape, got \(3, 3, 1\) and \(5, 3, 1\)"):
        standardize("mine", (train, (np.zeros((4, 5, 3), np.uint8), GOOD_Y)), "here")
    with pytest.raises(DataError, match="one type, got uint8 and float32"):
        standardize("mine", (train, (np.zeros((4, 3, 3)), GOOD_Y)), "here")


def test_labels_fit_the_named_classes() -> None:
    split = Split(GOOD_X, GOOD_Y)
    test = Split(GOOD_X, GOOD_Y + 2)
    with pytest.raises(DataError, match=r"test labels: must lie in \[0, 3\) .* got 3"):
        standardize("mine", Dataset(split, test, ("a", "b", "c"), "here"), "")
    with pytest.raises(DataError, match="class names must differ, got a, a"):
        standardize("mine", Dataset(split, split, ("a", "a"), "here"), "")


def test_files_name_each_training_image() -> None:
    split = Split(GOOD_X, GOOD_Y)
    dataset = Dataset(split, split, ("a", "b", "c"), "here", files=("1.png", "\udce9.png"))
    with pytest.raises(DataError, match=f"got 2 files and {len(GOOD_Y)} images"):
        standardize("mine", dataset, "")
    named = replace(dataset, files=("\udce9.png",) * len(GOOD_Y))
    assert standardize("mine", named, "").files[0] == r"\udce9.png"


def test_named_classes_need_not_all_occur() -> None:
    split = Split(GOOD_X, GOOD_Y)
    dataset = standardize("mine", Dataset(split, split, ("a", "b", "c"), "here"), "")
    assert dataset.classes == ("a", "b", "c")
    assert dataset.source == "here"


def test_plain_form_is_standardized() -> None:
    images = np.arange(36, dtype=np.int64).reshape(4, 3, 3)
    dataset = standardize("mine", ((images, GOOD_Y[:, None]), (images, GOOD_Y)), "there")
    assert dataset.train.images.shape == (4, 3, 3, 1)
    assert dataset.train.images.dtype == np.uint8
    assert dataset.train.labels.tolist() == GOOD_Y.tolist()
    assert dataset.train.labels.dtype == np.int64
    assert dataset.classes == ("0", "1")
    assert dataset.source == "there"


shapes = hnp.array_shapes(min_dims=3, max_dims=4, min_side=2, max_side=5)
whole_images = hnp.arrays(np.uint8, shapes)
real_images = hnp.arrays(
    st.sampled_from([np.float16, np.float32, np.float64]),
    shapes,
    elements=st.floats(0, 1, width=16),
)


@given(st.one_of(whole_images, real_images))
def test_good_images_keep_their_values(images: Any) -> None:
    labels = np.arange(len(images))
    # No two of them are the same.
    images.reshape(len(images), -1)[:, 0] = labels / (8 if images.dtype != np.uint8 else 1)
    dataset = standardize("mine", ((images, labels), (images, labels)), "here")
    kept = dataset.train.images
    assert kept.ndim == 4
    assert kept.dtype == (np.uint8 if images.dtype == np.uint8 else np.float32)
    assert kept.flags.c_contiguous
    assert np.array_equal(kept.reshape(images.shape), images.astype(kept.dtype))


def labelled(*images: tuple[int, int]) -> Any:
    """Flat images, each given as its level and its label, as training and test rows."""
    levels, labels = np.array(images).T
    rows = levels[:, None, None].repeat(3, 1).repeat(3, 2).astype(np.uint8), labels
    return rows, rows


def test_images_that_are_all_the_same_are_refused() -> None:
    rule = r"data set 'mine': train: all 4 images are the same, .* state a background that differs"
    with pytest.raises(DataError, match=rule):
        standardize("mine", labelled((7, 0), (7, 0), (7, 1), (7, 2)), "here")


def test_images_of_which_most_have_two_labels_are_refused() -> None:
    rule = "train: 3 of 5 images are identical to an image of another class; at most half may be"
    with pytest.raises(DataError, match=rule):
        standardize("mine", labelled((7, 0), (7, 0), (7, 1), (8, 1), (9, 0)), "here")


def test_the_test_images_are_looked_at_too() -> None:
    (good, _), (_, bad) = labelled((1, 0), (2, 1)), labelled((7, 0), (7, 1))
    with pytest.raises(DataError, match="test: all 2 images are the same"):
        standardize("mine", (good, bad), "here")


def test_a_few_images_with_two_labels_are_reported(caplog: pytest.LogCaptureFixture) -> None:
    standardize("mine", labelled((7, 0), (7, 1), (8, 1), (9, 0)), "here")
    said = "2 of 4 images are identical to an image of another class"
    assert [record.getMessage() for record in caplog.records] == [
        f"data set 'mine': {part}: {said}" for part in ("train", "test")
    ]


def test_a_class_that_is_mostly_one_image_is_reported(caplog: pytest.LogCaptureFixture) -> None:
    images = [*[(7, 0)] * 6, *[(10 + level, 0) for level in range(5)], (8, 1), (9, 1)]
    standardize("mine", labelled(*images), "here")
    said = "6 of 11 images of class 0 are one and the same"
    assert [record.getMessage() for record in caplog.records] == [
        f"data set 'mine': {part}: {said}" for part in ("train", "test")
    ]


def test_the_same_image_twice_in_one_class_is_no_matter(caplog: pytest.LogCaptureFixture) -> None:
    standardize("mine", labelled((7, 0), (7, 0), (8, 1), (8, 1)), "here")
    assert not caplog.records
