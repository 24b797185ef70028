"""Prepared data sets on disk: the only form in which data sets are read.

    ROOT/<name>-<digest>/dataset.json      a DatasetInfo without its folder
                        /train/images.npy  labels.npy  files.json (if the data set names files)
                        /test/images.npy   labels.npy

A trainer gets the `train` folder alone, and cannot read a test row by accident.
"""

import hashlib
import json
import os
import re
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from tuner.datasets.dataset import Dataset, Split
from tuner.datasets.known_datasets import load
from tuner.datasets.pictures.appearance import Background, measure
from tuner.datasets.transform import InputTransform, Reading, unstated
from tuner.errors import DataError, UnavailableError
from tuner.files import durable, exclusive, replacing
from tuner.spec.section import Frozen, Text
from tuner.spec.study_spec import DatasetReference

Array = npt.NDArray[Any]

_INFO, _IMAGES, _LABELS = "dataset.json", "images.npy", "labels.npy"
_FILES = "files.json"


class DatasetInfo(Frozen):
    """The facts about a prepared data set that need no array."""

    name: str
    digest: str
    """The SHA-256 of shapes, types and bytes of all four arrays, in hexadecimal."""
    source: Text
    """The source of the arrays, for people."""
    folder: Path
    image_shape: tuple[int, int, int]
    """Height, width, channels."""
    classes: tuple[str, ...]
    pixel_type: Literal["uint8", "float32"] = "uint8"
    """uint8 pixels lie in [0, 255], float32 ones in [0, 1]."""
    train_count: int
    test_count: int
    background: Background
    """The level of a plain background, or that it is mixed; for reading photos."""
    content_fraction: float
    """The median share of height or width, whichever is larger, that the content covers."""
    reading: Reading | None = None
    """How to read picture files as its images; None for data prepared by earlier versions."""

    @property
    def transform(self) -> InputTransform:
        """The transform from a picture file to one of its images."""
        reading = self.reading or unstated(self.name)
        return reading.transform(self.image_shape, self.background, self.content_fraction)

    @property
    def train(self) -> Path:
        """The folder of the training rows."""
        return self.folder / "train"

    @property
    def test(self) -> Path:
        """The folder of the test rows; only promotion and evaluation open it."""
        return self.folder / "test"


def prepare(reference: DatasetReference, root: Path) -> DatasetInfo:
    """Loads a data set and writes it below `root`, or finds it there already.

    The folder appears complete or not at all, and processes that prepare at once share it. One
    whose bytes are no longer those of its digest is written again.

    Raises:
        UsageError, DataError, UnavailableError: as `registry.load` says, or `root` cannot be
            written.
    """
    dataset = load(reference)
    digest = dataset_digest(dataset.train, dataset.test)
    folder = root / f"{_file_name(reference.name)}-{digest[:12]}"
    try:
        with exclusive(root / ".lock"):
            if not _is_whole(folder, digest):
                _write(folder, _describe(reference.name, dataset, digest, folder), dataset)
            _keep_files(folder / "train", dataset.files)
    except OSError as error:
        raise UnavailableError(
            f"{root}: cannot keep the data set {reference.name!r} here ({error.strerror})"
        ) from error
    # The data set may state a new way to read pictures for data that is there already.
    return read_info(folder).model_copy(update={"reading": dataset.reading})


def read_info(folder: Path) -> DatasetInfo:
    """Reads the facts about the data set in `folder`, also if the folder was moved.

    Raises:
        DataError: there is no prepared data set.
    """
    path = folder / _INFO
    try:
        known = json.loads(path.read_bytes())
        return DatasetInfo.model_validate({**known, "folder": folder.absolute()})
    except (OSError, ValueError, TypeError) as error:
        raise DataError(f"{path}: not a prepared data set: {error}") from error


def find_prepared(recorded: DatasetInfo, root: Path) -> DatasetInfo | None:
    """Finds a recorded data set on this machine; None if it is not prepared here.

    Args:
        recorded: the data set, maybe as another machine has it.
        root: where data sets are prepared here.
    """
    for folder in (recorded.folder, root / recorded.folder.name):
        known = os.path.exists(folder / _INFO)  # noqa: PTH110 - it may be another machine's
        if known and read_info(folder).digest == recorded.digest:
            return recorded.model_copy(update={"folder": folder})
    return None


def read_arrays(folder: Path) -> tuple[Array, Array]:
    """Opens the images and labels of one split, read-only and without reading them yet.

    Args:
        folder: `DatasetInfo.train` or `DatasetInfo.test`.

    Raises:
        DataError: an array is missing, truncated or holds objects.
    """
    return _open(folder / _IMAGES), _open(folder / _LABELS)


def has_arrays(folder: Path) -> bool:
    """Whether the images of a split are in `folder`."""
    return (folder / _IMAGES).exists()


def read_files(folder: Path) -> tuple[str, ...]:
    """Reads the name of each image's file; empty if the data set does not name them.

    Args:
        folder: `DatasetInfo.train`.

    Raises:
        DataError: they cannot be read.
    """
    try:
        return tuple(json.loads((folder / _FILES).read_bytes()))
    except FileNotFoundError:
        return ()
    except (OSError, ValueError, TypeError) as error:
        raise DataError(f"{folder / _FILES}: not a list of file names: {error}") from error


def dataset_digest(train: Split, test: Split) -> str:
    """The SHA-256 of shapes, types and bytes of the four arrays, in hexadecimal."""
    return arrays_digest((train.images, train.labels, test.images, test.labels))


def arrays_digest(arrays: Iterable[Array]) -> str:
    """The SHA-256 of shapes, types and bytes of arrays, in hexadecimal."""
    digest = hashlib.sha256()
    for array in arrays:
        digest.update(f"{array.shape} {array.dtype.str}\n".encode())
        # As bytes, since Python knows no buffer of bfloat16.
        digest.update(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)
    return digest.hexdigest()


def _describe(name: str, dataset: Dataset, digest: str, folder: Path) -> DatasetInfo:
    appearance = measure(dataset.train.images)
    height, width, channels = dataset.train.images.shape[1:]
    return DatasetInfo(
        name=name,
        digest=digest,
        source=dataset.source,
        folder=folder,
        image_shape=(height, width, channels),
        classes=dataset.classes,
        pixel_type="uint8" if dataset.train.images.dtype == np.uint8 else "float32",
        train_count=len(dataset.train.labels),
        test_count=len(dataset.test.labels),
        background=appearance.background,
        content_fraction=appearance.content_fraction,
        reading=dataset.reading,
    )


def _write(folder: Path, info: DatasetInfo, dataset: Dataset) -> None:
    """Writes the folder beside its place; the caller holds the lock, so one name is enough."""
    partial = folder.with_name(".partial")
    shutil.rmtree(partial, ignore_errors=True)
    for name, split in (("train", dataset.train), ("test", dataset.test)):
        (partial / name).mkdir(parents=True)
        for file_name, array in ((_IMAGES, split.images), (_LABELS, split.labels)):
            with durable(partial / name / file_name) as file:
                np.save(file, array, allow_pickle=False)
    with durable(partial / _INFO) as file:
        file.write(info.model_dump_json(indent=2, exclude={"folder"}).encode())
    shutil.rmtree(folder, ignore_errors=True)
    partial.replace(folder)


def _keep_files(folder: Path, files: tuple[str, ...]) -> None:
    """Writes the names of the images' files, unless they are there: the digest is without them."""
    content = json.dumps(files).encode()
    path = folder / _FILES
    if files and (not path.exists() or path.read_bytes() != content):
        with replacing(path) as file:
            file.write(content)


def _is_whole(folder: Path, digest: str) -> bool:
    try:
        info = read_info(folder)
        train, test = Split(*read_arrays(info.train)), Split(*read_arrays(info.test))
    except DataError:
        return False
    return dataset_digest(train, test) == digest


def _open(path: Path) -> Array:
    try:
        return np.load(path, mmap_mode="r", allow_pickle=False)  # type: ignore[no-any-return]
    except (OSError, ValueError, EOFError) as error:
        raise DataError(f"{path}: not a readable array of numbers: {error}") from error


def _file_name(name: str) -> str:
    """`name` with every character replaced that is unsafe in a path."""
    return re.sub(r"[^A-Za-z0-9_-]+", "-", name).strip("-")[:100] or "data"
