"""A user's data set in one NumPy file, with Keras' names for the arrays."""

from pathlib import Path

from tuner.datasets.dataset import Dataset, Split
from tuner.datasets.published.sources import NpzFile
from tuner.errors import DataError


def load(path: str) -> Dataset:
    """Reads `x_train`, `y_train`, `x_test`, `y_test` from a `.npz` file.

    Args:
        path: the file, relative to the current folder.

    Raises:
        DataError: the file cannot be read, lacks an array or holds objects.
    """
    file = Path(path).expanduser()
    try:
        arrays = NpzFile(file).fetch()
    except DataError as error:
        raise DataError(f"{file}: {error}") from error
    train = Split(arrays.x_train, arrays.y_train)
    return Dataset(train, Split(arrays.x_test, arrays.y_test), (), str(file))
