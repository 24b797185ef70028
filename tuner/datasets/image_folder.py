"""Pictures in folders, `train/<class>/*` and `test/<class>/*`, each folder named as its class."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps

from tuner.datasets.dataset import Dataset, Split
from tuner.errors import DataError, UsageError


def load(path: str, size: int | None = None, grey: bool = False) -> Dataset:
    """Reads every picture below `path`, in the order of the names.

    Args:
        path: the folder, relative to the current one.
        size: the height and width to bring every picture to, in pixels; without it all
            pictures must be equally large.
        grey: one channel instead of red, green and blue.

    Raises:
        DataError: a folder is missing or empty, or a picture cannot be read or used.
        UsageError: `size` is no positive whole number.
    """
    if size is not None and (type(size) is not int or size < 1):
        raise UsageError(f"data set 'image-folder': size: must be a whole number > 0, got {size!r}")
    folder = Path(path).expanduser()
    classes = tuple(child.name for child in _visible(folder / "train") if child.is_dir())
    reader = _Reader("L" if grey else "RGB", size)
    train = _read_split(folder / "train", classes, reader)
    test = _read_split(folder / "test", classes, reader)
    return Dataset(train, test, classes, str(folder))


@dataclass(frozen=True)
class _Reader:
    mode: str
    size: int | None

    def read(self, file: Path) -> npt.NDArray[np.uint8]:
        try:
            with Image.open(file) as opened:
                return self._pixels(file, opened)
        except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
            raise DataError(f"{file}: not a readable picture: {error}") from error

    def _pixels(self, file: Path, opened: Image.Image) -> npt.NDArray[np.uint8]:
        if opened.mode.startswith(("I", "F")):
            raise DataError(f"{file}: must have 8 bits a channel, got mode {opened.mode!r}")
        picture = ImageOps.exif_transpose(opened).convert(self.mode)
        if self.size is not None:
            picture = picture.resize((self.size, self.size))
        return np.asarray(picture)


def _read_split(folder: Path, classes: Sequence[str], reader: _Reader) -> Split:
    strangers = [child.name for child in _visible(folder) if child.name not in classes]
    if strangers:
        raise DataError(
            f"{folder}: must hold only the folders of the classes {', '.join(classes)}, "
            f"got {strangers[0]!r}"
        )
    files = [
        (file, label) for label, name in enumerate(classes) for file in _visible(folder / name)
    ]
    if not files:
        raise DataError(f"{folder}: must hold pictures in a folder for each class, got none")
    images = [reader.read(file) for file, _ in files]
    _check_one_shape([file for file, _ in files], images)
    return Split(np.stack(images), np.array([label for _, label in files]))


def _check_one_shape(files: Sequence[Path], images: Sequence[npt.NDArray[Any]]) -> None:
    for file, image in zip(files, images, strict=True):
        if image.shape != images[0].shape:
            raise DataError(
                f"{file}: must be as large as {files[0].name}, {images[0].shape[:2]}, "
                f"got {image.shape[:2]}; set the argument size to bring all to one size"
            )


def _visible(folder: Path) -> list[Path]:
    """What lies in `folder`, sorted, without the hidden files that file managers leave."""
    try:
        return sorted(child for child in folder.iterdir() if not child.name.startswith("."))
    except OSError as error:
        raise DataError(f"{folder}: {error.strerror}") from error
