"""Fixtures of the digits of scikit-learn and of tiny networks that were trained on them once."""

import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.datasets import load_digits

from tuner.datasets.store import DatasetInfo

TRAINING_ROWS = 1400


@pytest.fixture(scope="session")
def digits(tmp_path_factory: pytest.TempPathFactory) -> DatasetInfo:
    """The 1,797 digits of scikit-learn, prepared as the data set store lays them out."""
    folder = tmp_path_factory.mktemp("digits")
    images, labels = load_digits(return_X_y=True)
    pixels = (images.reshape(-1, 8, 8, 1) / 16 * 255).round().astype(np.uint8)
    for name, rows in (("train", slice(TRAINING_ROWS)), ("test", slice(TRAINING_ROWS, None))):
        (folder / name).mkdir()
        np.save(folder / name / "images.npy", pixels[rows])
        np.save(folder / name / "labels.npy", labels[rows].astype(np.int64))
    return DatasetInfo(
        name="digits",
        digest="d1" * 32,
        source="scikit-learn",
        folder=folder,
        image_shape=(8, 8, 1),
        classes=tuple("0123456789"),
        train_count=TRAINING_ROWS,
        test_count=len(labels) - TRAINING_ROWS,
        background="dark",
        content_fraction=1.0,
    )


@pytest.fixture(scope="session")
def model_file(digits: DatasetInfo, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A dense network with dropout, trained for a few epochs."""
    return _trained(digits, tmp_path_factory.mktemp("model") / "model.keras", seed=0)


@pytest.fixture(scope="session")
def other_model_file(digits: DatasetInfo, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same network from another seed."""
    return _trained(digits, tmp_path_factory.mktemp("other") / "model.keras", seed=1)


@pytest.fixture(scope="session")
def worse_model_file(digits: DatasetInfo, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same network, hardly trained."""
    return _trained(digits, tmp_path_factory.mktemp("worse") / "model.keras", seed=2, epochs=0)


@pytest.fixture(scope="session")
def unscaled_model_file(model_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The trained network as a file that has lost what its first layer scaled by."""
    import keras

    path = tmp_path_factory.mktemp("unscaled") / "model.keras"
    model = keras.saving.load_model(model_file)
    kernel = next(each for each in model.weights if each.name == "kernel")
    kernel.assign(kernel.numpy() / 3)
    model.save(path)
    return path


def _trained(digits: DatasetInfo, path: Path, seed: int, epochs: int = 8) -> Path:
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    import keras

    keras.utils.set_random_seed(seed)
    model = keras.Sequential(
        [
            keras.Input(digits.image_shape),
            keras.layers.Flatten(),
            keras.layers.Dense(32, activation="relu"),
            keras.layers.Dropout(0.2),
            keras.layers.Dense(10, activation="softmax"),
        ]
    )
    images = np.load(digits.train / "images.npy").astype(np.float32) / 255
    labels = np.load(digits.train / "labels.npy")
    model.compile("adam", "sparse_categorical_crossentropy")
    model.fit(images, labels, batch_size=32, epochs=epochs, verbose=0)
    model.save(path)
    return path


@pytest.fixture
def damaged(model_file: Path, tmp_path: Path) -> Path:
    """The model file with one byte of its weights flipped."""
    copy = tmp_path / "damaged" / "model.keras"
    copy.parent.mkdir()
    shutil.copyfile(model_file, copy)
    content = bytearray(copy.read_bytes())
    content[content.index(b"model.weights.h5") + 2000] ^= 0xFF
    copy.write_bytes(content)
    return copy


@pytest.fixture(scope="session")
def test_images(digits: DatasetInfo) -> NDArray[np.uint8]:
    """The test images, as a test may look at them."""
    images: NDArray[np.uint8] = np.load(digits.test / "images.npy")
    return images
