"""Photos and drawings as the model's data would show them.

Any picture file becomes pixels of the data set's shape. Where the data has a plain
background, the subject is found, given the data's polarity, and framed as the data frames
it: its larger side covers the data's share of the frame, and its centre of mass lies in the
middle, as in MNIST (Y. LeCun et al., Proc. IEEE 86 (1998), 2278-2324, section III.A).
Elsewhere the picture is cropped at its centre to the frame's aspect and resized.
"""

import warnings
from pathlib import Path
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from tuner.errors import DataError
from tuner.promotion.ground import Pixels
from tuner.promotion.subject import framed

_UNREADABLE = (OSError, ValueError, SyntaxError)
"""What Pillow raises for a file that ends early or breaks its format."""


class Look(Protocol):
    """What the pictures of a data set look like; a `DatasetInfo` and a `Champion` tell it."""

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """Height, width, channels."""

    @property
    def background(self) -> Literal["dark", "light", "mixed"]:
        """Whether the border is plain, and how bright it is."""

    @property
    def content_fraction(self) -> float:
        """Share of the frame that the larger side of the subject covers."""


def read_image(path: Path, look: Look) -> Pixels:
    """Reads a picture of any size, depth and orientation as the model's data would show it.

    A picture that has the data's size and, on a plain background, its polarity is taken as
    it is. Transparent pictures are put on the ground that contrasts with what is drawn.

    Returns:
        float32 pixels in [0, 1] of shape `look.image_shape`.

    Raises:
        DataError: the file is missing, no picture, cut short or too large to decode, or shows
            nothing but background.
    """
    height, width, channels = look.image_shape
    if channels not in (1, 3):
        raise DataError(f"{path}: pictures become 1 or 3 channels, the model takes {channels}")
    picture = _upright(path)
    if look.background == "mixed":
        return _pixels(_resized(_coloured(picture, channels), width, height), channels)
    found = framed(_pixels(_coloured(picture, channels), channels), look)
    if found is None:
        raise DataError(f"{path}: nothing stands out from the background")
    return found


def _upright(path: Path) -> Image.Image:
    """The decoded picture, turned as its camera was held."""
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


def _coloured(picture: Image.Image, channels: int) -> Image.Image:
    """The picture as 8-bit grey or colour, whatever its mode was."""
    if picture.mode.startswith(("I", "F")):
        picture = _eight_bit(picture)
    elif picture.has_transparency_data:
        picture = _opaque(picture.convert("RGBA"))
    return picture.convert("L" if channels == 1 else "RGB")


def _eight_bit(picture: Image.Image) -> Image.Image:
    """A deep grey picture in 8 bits: 16-bit ones by their range, others by their extremes."""
    values = np.asarray(picture, dtype=np.float64)
    low, high = (0.0, 65535.0) if picture.mode.startswith("I;16") else _extremes(values)
    return Image.fromarray(((values - low) / (high - low) * 255).round().astype(np.uint8))


def _extremes(values: NDArray[np.float64]) -> tuple[float, float]:
    finite = np.nan_to_num(values)
    low, high = float(finite.min()), float(finite.max())
    return (low, high) if high > low else (low, low + 1)


def _opaque(picture: Image.Image) -> Image.Image:
    """Puts a transparent picture on white if what is drawn is dark, else on black."""
    grey, alpha = np.asarray(picture.convert("L")), np.asarray(picture.getchannel("A"))
    drawn = np.average(grey, weights=alpha) if alpha.any() else 0
    ground = Image.new("RGBA", picture.size, "white" if drawn < 128 else "black")
    return Image.alpha_composite(ground, picture)


def _resized(picture: Image.Image, width: int, height: int) -> Image.Image:
    """Crops the centre to the frame's aspect and resizes, antialiased."""
    if picture.size == (width, height):
        return picture
    return ImageOps.fit(picture, (width, height), method=Image.Resampling.LANCZOS)


def _pixels(picture: Image.Image, channels: int) -> Pixels:
    """Float pixels in [0, 1], shape (H, W, channels)."""
    array = np.asarray(picture, dtype=np.float32) / np.float32(255)
    return array.reshape(*array.shape[:2], channels)
