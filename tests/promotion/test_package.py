"""What is registered takes raw pixels and answers as the trial's network does, for any network.

Every process of pytest collects this file, and one runs it: only there Keras is imported.
"""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from numpy.typing import NDArray

from tuner.inference.predictor import Predictor
from tuner.models.model_file import load_verified, sha256_of
from tuner.promotion.registry.package import servable
from tuner.spec.recipe import Pixels

if TYPE_CHECKING:
    import keras

SHAPE = (8, 8, 1)


def subclassed() -> "keras.Model":
    import keras

    @keras.saving.register_keras_serializable("test_package")
    class Subclassed(keras.Model):  # type: ignore[misc]  # Keras has no types
        def __init__(self, **options: Any) -> None:
            super().__init__(**options)
            self.flat = keras.layers.Flatten()
            self.head = keras.layers.Dense(10, activation="softmax")

        def call(self, pixels: Any) -> Any:
            return self.head(self.flat(pixels))

    model = Subclassed()
    model(np.zeros((1, *SHAPE), np.float32))
    return model


def sequential() -> "keras.Model":
    import keras
    from keras import layers

    last = layers.Dense(10, activation="softmax", dtype="float32")
    middle = [layers.Conv2D(4, 3), layers.BatchNormalization(), layers.Dropout(0.5)]
    return keras.Sequential([layers.Input(SHAPE), *middle, layers.Flatten(), last])


@pytest.fixture
def mixed_precision() -> Iterator[None]:
    import keras

    policy = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_bfloat16")
    yield
    keras.config.set_dtype_policy(policy)


def check(model: "keras.Model", pixels: Pixels, images: NDArray[np.uint8], path: Path) -> None:
    servable(model, SHAPE, pixels).save(path)
    loaded = load_verified(path, sha256_of(path))
    expected = Predictor(model, pixels).probabilities(images)
    answers = Predictor(loaded, "bytes").probabilities(images)
    np.testing.assert_allclose(answers, expected, rtol=0, atol=1e-6)
    plain = loaded.predict(images, verbose=0)
    np.testing.assert_allclose(plain, expected, rtol=0, atol=1e-2)  # in batches of another size


@pytest.mark.parametrize("pixels", ["unit", "bytes"])
@pytest.mark.parametrize("make", [sequential, subclassed])
def test_it_takes_bytes_and_answers_as_the_network(
    make: "Callable[[], keras.Model]",
    pixels: Pixels,
    test_images: NDArray[np.uint8],
    tmp_path: Path,
) -> None:
    check(make(), pixels, test_images, tmp_path / "model.keras")


@pytest.mark.usefixtures("mixed_precision")
def test_a_network_trained_in_bfloat16_is_given_the_same_pixels(
    test_images: NDArray[np.uint8], tmp_path: Path
) -> None:
    check(sequential(), "unit", test_images, tmp_path / "model.keras")
