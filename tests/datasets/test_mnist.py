import gzip
import os
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tuner.datasets.builtin import mnist
from tuner.errors import DataError


@pytest.fixture
def from_cache(mnist_cache: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(mnist_cache))
    return mnist_cache


@pytest.mark.usefixtures("from_cache")
def test_it_is_the_real_one() -> None:
    dataset = mnist.load()
    assert dataset.train.images.shape == (60000, 28, 28)
    assert dataset.test.images.shape == (10000, 28, 28)
    assert np.bincount(dataset.test.labels).tolist() == [
        980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009,
    ]  # fmt: skip
    assert dataset.train.labels[:5].tolist() == [5, 0, 4, 1, 9]


def test_loading_it_imports_neither_tensorflow_nor_keras(mnist_cache: Path) -> None:
    code = (
        "import sys; from tuner.datasets.builtin import mnist; mnist.load()\n"
        "print({'tensorflow', 'keras', 'sklearn', 'mlflow', 'optuna'} & set(sys.modules))"
    )
    environment = {**os.environ, "XDG_CACHE_HOME": str(mnist_cache)}
    said = subprocess.check_output([sys.executable, "-c", code], text=True, env=environment)
    assert said.strip() == "set()"


def test_keras_cache_is_used_and_copied(
    mnist_cache: Path, cache_home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    theirs = tmp_path / "keras/datasets/mnist.npz"
    theirs.parent.mkdir(parents=True)
    theirs.symlink_to(mnist_cache / "tuner/datasets/mnist/mnist.npz")
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "keras"))
    assert mnist.load().source == str(theirs)
    assert (cache_home / "tuner/datasets/mnist/mnist.npz").is_file()


class Harmful:
    def __reduce__(self) -> tuple[object, ...]:
        return os.system, ("touch harmed",)


def write_pickle(path: Path, content: object) -> Path:
    with gzip.open(path, "wb") as file:
        pickle.dump(content, file, protocol=2)
    return path


def test_a_pickle_that_would_run_code_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError, match="system is not admitted"):
        mnist.read_pickled_mnist(write_pickle(tmp_path / "mnist.pkl.gz", Harmful()))
    assert not (tmp_path / "harmed").exists()


@pytest.mark.parametrize("content", [None, (1, 2, 3), (("x", "y"),) * 3])
def test_a_foreign_pickle_is_refused(tmp_path: Path, content: object) -> None:
    with pytest.raises(DataError, match="not the expected pickle"):
        mnist.read_pickled_mnist(write_pickle(tmp_path / "mnist.pkl.gz", content))


def test_a_cut_pickle_is_refused(tmp_path: Path) -> None:
    path = write_pickle(tmp_path / "mnist.pkl.gz", list(range(1000)))
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(DataError, match="not the expected pickle"):
        mnist.read_pickled_mnist(path)
