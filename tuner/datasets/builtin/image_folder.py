"""Pictures in folders, `train/<class>/*` and `test/<class>/*`, each folder named as its class."""

from collections.abc import Sequence
from pathlib import Path
from typing import get_args

import numpy as np
from PIL import ImageColor

from tuner.datasets.dataset import Dataset, Split
from tuner.datasets.pictures.picture_files import decoded, pixels
from tuner.datasets.transform import Fit, InputTransform, Reading
from tuner.errors import DataError, UsageError


def load(
    path: str,
    size: int | None = None,
    grey: bool = False,
    fit: Fit = "stretch",
    background: str = "white",
) -> Dataset:
    """Reads every picture below `path`, in the order of the names.

    Args:
        path: the folder, relative to the current one.
        size: the height and width to bring every picture to, in pixels; without it all
            pictures must be equally large.
        grey: one channel instead of red, green and blue.
        fit: how a picture of another shape is brought to the size: `stretch`, `crop`, `pad`.
        background: what transparent pictures are put on, and padded with: a colour as CSS
            writes it, such as `black` or `"#808080"`.

    Raises:
        DataError: a folder is missing or empty, or a picture cannot be read or used.
        UsageError: `size` is no positive whole number, or `fit` or `background` is unknown.
    """
    reading = _reading(size, fit, background)
    folder = Path(path).expanduser()
    classes = tuple(child.name for child in _visible(folder / "train") if child.is_dir())
    files = {split: _files(folder / split, classes) for split in ("train", "test")}
    height, width = (size, size) if size else _size(files["train"][0][0])
    shape = (height, width, 1 if grey else 3)
    transform = InputTransform(image_shape=shape, fit=reading.fit, background=reading.background)
    first = None if size else files["train"][0][0]
    train, test = (_read(labelled, transform, first) for labelled in files.values())
    names = tuple(str(file.relative_to(folder)) for file, _ in files["train"])
    return Dataset(train, test, classes, str(folder), reading, names)


def _reading(size: object, fit: str, background: object) -> Reading:
    if size is not None and (type(size) is not int or size < 1):
        raise _wrong("size", "a whole number > 0", size)
    if fit not in get_args(Fit):
        raise _wrong("fit", "stretch, crop or pad", fit)
    try:
        red, green, blue, *_ = ImageColor.getrgb(str(background))
    except ValueError as unknown:
        raise _wrong("background", "a colour, such as white or '#808080'", background) from unknown
    return Reading(fit=fit, background=(red, green, blue))


def _wrong(argument: str, rule: str, value: object) -> UsageError:
    return UsageError(f"data set 'image-folder': {argument}: must be {rule}, got {value!r}")


def _files(folder: Path, classes: Sequence[str]) -> list[tuple[Path, int]]:
    """The picture files of a split, each with its label."""
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
    return files


def _size(file: Path) -> tuple[int, int]:
    width, height = decoded(file).size
    return height, width


def _read(
    labelled: Sequence[tuple[Path, int]], transform: InputTransform, like: Path | None
) -> Split:
    """Reads a split; its pictures must have the size of `like`, if that is given."""
    images = np.empty((len(labelled), *transform.image_shape), np.uint8)
    for image, (file, _) in zip(images, labelled, strict=True):
        picture = decoded(file)
        if like is not None and picture.size != transform.image_shape[1::-1]:
            raise DataError(
                f"{file}: must be as large as {like.name}, {transform.image_shape[:2]}, "
                f"got {picture.size[::-1]}; set the argument size to bring all to one size"
            )
        image[...] = pixels(file, picture, transform)
    return Split(images, np.array([label for _, label in labelled]))


def _visible(folder: Path) -> list[Path]:
    """The entries of `folder`, sorted, without hidden files."""
    try:
        return sorted(child for child in folder.iterdir() if not child.name.startswith("."))
    except OSError as error:
        raise DataError(f"{folder}: {error.strerror}") from error
