"""The sources of a published data set of the MNIST family: files, addresses, packages.

A source only fetches. Whether what it gave is the data set is for `published` to say.
"""

import gzip
import io
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, BinaryIO, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from tuner.datasets.published.download import TIMEOUT_S, download
from tuner.datasets.published.idx import decode
from tuner.datasets.published.packages import debian_package_file
from tuner.errors import DataError


class Arrays(NamedTuple):
    """The four arrays, under the names that Keras' `.npz` files use."""

    x_train: npt.NDArray[Any]
    y_train: npt.NDArray[Any]
    x_test: npt.NDArray[Any]
    y_test: npt.NDArray[Any]


IDX_FILES = {
    "x_train": "train-images-idx3-ubyte.gz",
    "y_train": "train-labels-idx1-ubyte.gz",
    "x_test": "t10k-images-idx3-ubyte.gz",
    "y_test": "t10k-labels-idx1-ubyte.gz",
}
"""The names under which each array has always been published."""


class Source(Protocol):
    """A source that may have a data set. `str(source)` names it for people."""

    def fetch(self) -> Arrays:
        """Gets the arrays, unverified.

        Raises:
            DataError: they are not to be had here, with the reason.
        """


@dataclass(frozen=True)
class NpzFile:
    """A `.npz` file of numbers on this machine."""

    path: Path

    def __str__(self) -> str:
        return str(self.path)

    def fetch(self) -> Arrays:
        """Reads the file.

        Raises:
            DataError: the file is missing or damaged.
        """
        try:
            with self.path.open("rb") as file:
                return _from_npz(file)
        except OSError as error:
            raise DataError(error.strerror or str(error)) from error


@dataclass(frozen=True)
class NpzAddress:
    """A `.npz` file at an HTTP address."""

    address: str
    timeout_s: float = TIMEOUT_S

    def __str__(self) -> str:
        return self.address

    def fetch(self) -> Arrays:
        """Downloads the file and reads it."""
        return _from_npz(io.BytesIO(download(self.address, self.timeout_s)))


@dataclass(frozen=True)
class IdxFolder:
    """A folder on this machine with the four compressed IDX files."""

    folder: Path

    def __str__(self) -> str:
        return str(self.folder)

    def fetch(self) -> Arrays:
        """Reads the four files."""
        return _from_idx(lambda file: _content(self.folder / file))


@dataclass(frozen=True)
class IdxAddress:
    """An HTTP address, ending in a slash, with the four compressed IDX files below it."""

    address: str
    timeout_s: float = TIMEOUT_S

    def __str__(self) -> str:
        return self.address

    def fetch(self) -> Arrays:
        """Downloads the four files."""
        return _from_idx(lambda file: download(self.address + file, self.timeout_s))


@dataclass(frozen=True)
class DebianPackage:
    """A Debian package with the four compressed IDX files in `folder`, installed or not."""

    package: str
    folder: Path

    def __str__(self) -> str:
        return f"Debian package {self.package}"

    def fetch(self) -> Arrays:
        """Reads the installed files, or those of the downloaded and unpacked package."""
        if self.folder.is_dir():
            return IdxFolder(self.folder).fetch()
        with TemporaryDirectory(prefix="tuner-") as temporary:
            member = str(self.folder.relative_to("/"))
            unpacked = debian_package_file(self.package, member, Path(temporary))
            return IdxFolder(unpacked).fetch()


_DAMAGE = (
    EOFError,
    LookupError,
    MemoryError,
    RuntimeError,
    TypeError,
    ValueError,
    zipfile.BadZipFile,
    zlib.error,
)
"""The errors of NumPy and zipfile for files that are damaged, encrypted or of another kind."""


def _from_npz(file: BinaryIO) -> Arrays:
    """Reads the four arrays; refuses arrays of objects, since loading these runs code."""
    try:
        with np.load(file, allow_pickle=False) as content:
            missing = [name for name in Arrays._fields if name not in content]
            if missing:
                raise DataError(
                    f"must hold the arrays {', '.join(Arrays._fields)}; "
                    f"{', '.join(missing)} missing among {', '.join(content) or 'none'}"
                )
            return Arrays(*(content[name] for name in Arrays._fields))
    except _DAMAGE as error:
        raise DataError(f"not a readable .npz file of numbers: {error}") from error


def _from_idx(content_of: Callable[[str], bytes]) -> Arrays:
    try:
        return Arrays(
            **{name: decode(gzip.decompress(content_of(IDX_FILES[name]))) for name in IDX_FILES}
        )
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise DataError(f"not a readable gzip file: {error}") from error


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise DataError(error.strerror or str(error)) from error
