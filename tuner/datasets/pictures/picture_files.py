"""Applies a data set's input transform: from a picture file to pixels.

All pictures are read here, for data sets in folders and for `tuner predict`, so that a file gives
the same pixels everywhere. A transform with a framing is for photos of drawings: the drawing is
found and framed as in the data. Its larger side covers the data's share of the frame, and its
centre of mass is in the middle, as in MNIST (Y. LeCun et al., Proc. IEEE
86 (1998), 2278-2324, section III.A).
"""

import warnings
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageColor, ImageOps, UnidentifiedImageError

from tuner.datasets.transform import WHITE, Colour, InputTransform
from tuner.errors import DataError

Bytes = NDArray[np.uint8]
Floats = NDArray[np.float32]

_MODES = {1: "L", 3: "RGB"}
_UNREADABLE = (OSError, ValueError, SyntaxError)
"""The errors of Pillow for a file that ends early or breaks its format."""
_BLACK: Colour = (0, 0, 0)


def read(path: Path, transform: InputTransform) -> Bytes | Floats:
    """Reads a picture of any size, depth and orientation as an image of the data set.

    Returns:
        Pixels of shape `transform.image_shape`: uint8, or with a framing float32 in [0, 1].

    Raises:
        DataError: the file is missing, no picture, incomplete or too large to decode, cannot be
            converted to the data set's form, or, with a framing, shows only background.
    """
    picture = decoded(path)
    if transform.framing is None:
        return pixels(path, picture, transform)
    return _drawn(path, picture, transform)


def decoded(path: Path) -> Image.Image:
    """The decoded picture, upright as its camera recorded.

    Raises:
        DataError: the file is missing, no picture, cut short or too large to decode.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # of odd metadata, which is not used
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(path) as file:
                file.load()
                return ImageOps.exif_transpose(file)
    except FileNotFoundError as missing:
        raise DataError(f"{path}: there is no such file") from missing
    except UnidentifiedImageError as unknown:
        raise DataError(f"{path}: is no picture in a format that Pillow reads") from unknown
    except (Image.DecompressionBombWarning, Image.DecompressionBombError) as bomb:
        raise DataError(
            f"{path}: must have at most {Image.MAX_IMAGE_PIXELS} pixels; make it smaller"
        ) from bomb
    except _UNREADABLE as error:
        raise DataError(f"{path}: cannot be read as a picture: {error}") from error


def pixels(path: Path, picture: Image.Image, transform: InputTransform) -> Bytes:
    """A decoded picture as an image of the data set, uint8 of shape `transform.image_shape`.

    Raises:
        DataError: its mode cannot become one or three channels of 8 bits.
    """
    height, width, channels = transform.image_shape
    flat = _flat(path, picture, channels, transform.background)
    fitted = _fitted(flat, (width, height), transform)
    return np.asarray(fitted).reshape(transform.image_shape)


def _fitted(picture: Image.Image, size: tuple[int, int], transform: InputTransform) -> Image.Image:
    """Brings an opaque picture to width and height, unless it has them."""
    smooth = Image.Resampling.BICUBIC
    match transform.fit:
        case "stretch":
            return picture.resize(size, smooth)
        case "crop":
            return ImageOps.fit(picture, size, smooth)
        case "pad":
            background = ImageColor.getcolor(f"rgb{transform.background}", picture.mode)
            return ImageOps.pad(picture, size, smooth, background)


def _flat(path: Path, picture: Image.Image, channels: int, background: Colour) -> Image.Image:
    """The picture of any mode on its background, as 8-bit grey or colour."""
    if channels not in _MODES:
        raise DataError(f"{path}: pictures become 1 or 3 channels, the data set has {channels}")
    if picture.mode.startswith("I;16"):
        picture = _eight_bit(picture, 65535)
    if picture.mode.startswith(("I", "F")):
        raise DataError(f"{path}: must have 8 or 16 bits a channel, got mode {picture.mode!r}")
    if picture.has_transparency_data:
        picture = _composed(picture, background)
    if picture.mode == "LAB":
        picture = picture.convert("RGB")  # the only conversion that Pillow has
    return picture.convert(_MODES[channels])


def _eight_bit(picture: Image.Image, highest: float, lowest: float = 0) -> Image.Image:
    """A deep grey picture in 8 bits, with alpha if one of its levels means transparent."""
    values = np.asarray(picture).astype(np.float64)
    grey = ((values - lowest) / (highest - lowest) * 255).round().astype(np.uint8)
    key = picture.info.get("transparency")
    if key is None:
        return Image.fromarray(grey)
    alpha = np.where(values == key, 0, 255).astype(np.uint8)
    return Image.merge("LA", (Image.fromarray(grey), Image.fromarray(alpha)))


def _composed(picture: Image.Image, background: Colour) -> Image.Image:
    """A picture with alpha, a transparent colour or transparent palette entries on a background."""
    return Image.alpha_composite(Image.new("RGBA", picture.size, background), _rgba(picture))


def _rgba(picture: Image.Image) -> Image.Image:
    key = picture.info.get("transparency")
    if isinstance(key, tuple) and max(key) > 255:  # of 16 bits, of which Pillow keeps the upper 8
        picture = picture.copy()
        picture.info["transparency"] = tuple(level >> 8 for level in key)
    return picture.convert("RGBA")


def _drawn(path: Path, picture: Image.Image, transform: InputTransform) -> Floats:
    """The drawing, framed; a picture that looks like the data's already stays unchanged."""
    from tuner.datasets.pictures.subject import framed

    assert transform.framing is not None
    channels = transform.image_shape[2]
    if picture.mode in ("I", "F"):
        picture = _eight_bit(picture, *_extremes(np.asarray(picture)))
    flat = _flat(path, picture, channels, _contrasting(picture))
    floats = np.asarray(flat, dtype=np.float32) / np.float32(255)
    floats = floats.reshape(*floats.shape[:2], channels)
    found = framed(floats, transform.image_shape, transform.framing)
    if found is None:
        raise DataError(f"{path}: nothing stands out from the background")
    return found


def _extremes(values: NDArray[np.generic]) -> tuple[float, float]:
    """The highest and the lowest level of a picture without a stated range."""
    finite = np.nan_to_num(values.astype(np.float64))
    low, high = float(finite.min()), float(finite.max())
    return (high, low) if high > low else (low + 1, low)


def _contrasting(picture: Image.Image) -> Colour:
    """White if the drawing on a transparent background is dark, else black."""
    if not picture.has_transparency_data or picture.mode.startswith("I"):
        return WHITE
    drawing = _rgba(picture)
    grey, alpha = np.asarray(drawing.convert("L")), np.asarray(drawing.getchannel("A"))
    level = np.average(grey, weights=alpha) if alpha.any() else 0
    return WHITE if level < 128 else _BLACK
