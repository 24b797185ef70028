"""One image or many, bytes or floats: the same probabilities."""

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from tuner.errors import DataError, ModelError
from tuner.inference.latency import measure
from tuner.inference.predictor import Predictor
from tuner.models.model_file import load_verified, sha256_of
from tuner.training.plan import ModelPlan


@pytest.fixture(scope="module")
def predictor(model_file: Path) -> Predictor:
    return Predictor(load_verified(model_file, sha256_of(model_file)), batch_size=100)


def test_predictions_in_batches_equal_those_of_keras(
    predictor: Predictor, model_file: Path, test_images: NDArray[np.uint8]
) -> None:
    model = load_verified(model_file, sha256_of(model_file))
    expected = model.predict(test_images.astype(np.float32) / 255, verbose=0)
    probabilities = predictor.probabilities(test_images)
    assert probabilities.dtype == np.float32
    np.testing.assert_allclose(probabilities, expected, atol=1e-6)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, atol=1e-5)


def test_one_image_is_predicted_as_in_a_batch(
    predictor: Predictor, test_images: NDArray[np.uint8]
) -> None:
    batch = predictor.probabilities(test_images[:20])
    for image, expected in zip(test_images, batch, strict=False):
        np.testing.assert_allclose(predictor.predict_one(image), expected, atol=1e-6)


def test_bytes_and_floats_of_one_image_are_predicted_alike(
    predictor: Predictor, test_images: NDArray[np.uint8]
) -> None:
    floats = test_images[:5].astype(np.float64) / 255
    np.testing.assert_allclose(
        predictor.probabilities(floats), predictor.probabilities(test_images[:5]), atol=1e-6
    )


@pytest.mark.parametrize(
    ("images", "rule"),
    [
        (np.zeros((0, 8, 8, 1), np.uint8), "at least one image"),
        (np.zeros((1, 8, 9, 1), np.uint8), r"shape \(8, 8, 1\), got \(8, 9, 1\)"),
        (np.zeros((8, 8, 1), np.uint8), r"shape \(8, 8, 1\), got \(8, 1\)"),
        (np.full((1, 8, 8, 1), np.nan), "must be finite"),
        (np.full((1, 8, 8, 1), "7"), "must be uint8 or float"),
        (np.zeros((1, 8, 8, 1), np.int64), "must be uint8 or float, got int64"),
    ],
    ids=["none", "width", "rank", "nan", "strings", "integers"],
)
def test_an_array_that_is_no_image_of_the_model_is_refused(
    predictor: Predictor, images: NDArray[np.generic], rule: str
) -> None:
    with pytest.raises(DataError, match=rule):
        predictor.probabilities(images)


def test_the_latency_of_a_damaged_file_is_not_measured(model_file: Path, damaged: Path) -> None:
    with pytest.raises(ModelError, match="SHA-256 must be the recorded"):
        measure(damaged, sha256_of(model_file), ModelPlan(name="paper-cnn"))
