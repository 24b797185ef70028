"""A picture file is the same pixels to everyone, whatever its mode, and fits as the data says."""

import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from tuner.datasets.known_datasets import load
from tuner.datasets.pictures.picture_files import read
from tuner.datasets.transform import Colour, Fit, InputTransform, Reading
from tuner.errors import DataError
from tuner.spec.study_spec import DatasetReference

INK = np.zeros((6, 8), bool)
INK[1:5, 2:4] = True
LEVEL = 17
"""Of the ink, in 8 bits; in 16 bits it is this byte twice."""

Save = Callable[[Path], None]


def as_data(channels: int, background: Colour) -> InputTransform:
    return InputTransform(image_shape=(6, 8, channels), background=background)


def _image(ink: int, rest: int, dtype: npt.DTypeLike = np.uint8) -> Image.Image:
    return Image.fromarray(np.where(INK, ink, rest).astype(dtype))


def _with_alpha(mode: str) -> Image.Image:
    alpha = _image(255, 0)
    grey = Image.merge("LA", (_image(LEVEL, 0), alpha))
    return grey if mode == "LA" else grey.convert("RGBA")


def _palette(colour: int = LEVEL) -> Image.Image:
    picture = Image.frombytes("P", (8, 6), _image(1, 0).tobytes())
    picture.putpalette([0, 0, 0, *[colour] * 3])
    return picture


def _palette_and_alpha() -> Image.Image:
    return Image.merge("PA", (_palette(), _image(255, 0)))


def _deep(path: Path, colour: int, rows: npt.NDArray[np.uint16], key: bytes = b"") -> None:
    """Writes a PNG with 16 bits a channel, which Pillow only reads."""

    def chunk(name: bytes, content: bytes) -> bytes:
        body = name + content
        return struct.pack(">I", len(content)) + body + struct.pack(">I", zlib.crc32(body))

    header = struct.pack(">IIBBBBB", 8, 6, 16, colour, 0, 0, 0)
    lines = b"".join(b"\0" + row.astype(">u2").tobytes() for row in rows)
    chunks = [chunk(b"IHDR", header), chunk(b"tRNS", key) if key else b""]
    chunks += [chunk(b"IDAT", zlib.compress(lines)), chunk(b"IEND", b"")]
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(chunks))


def _deep_colour(path: Path) -> None:
    key = 0x0203
    _deep(
        path, 2, np.where(INK, LEVEL * 257, key).repeat(3, axis=1), struct.pack(">3H", *[key] * 3)
    )


def _deep_grey_and_alpha(path: Path) -> None:
    levels = np.stack([np.where(INK, LEVEL * 257, 0), np.where(INK, 65535, 0)], axis=-1)
    _deep(path, 4, levels.reshape(6, 16))


def _saved(make: Callable[[], Image.Image], **options: Any) -> Save:
    return lambda path: make().save(path, **options)


TRANSPARENT: dict[str, Save] = {
    "RGBA.png": _saved(lambda: _with_alpha("RGBA")),
    "LA.png": _saved(lambda: _with_alpha("LA")),
    "RGBA.tiff": _saved(lambda: _with_alpha("RGBA")),
    "LA.tiff": _saved(lambda: _with_alpha("LA")),
    "RGBA.webp": _saved(lambda: _with_alpha("RGBA"), lossless=True),
    "PA.tiff": _saved(_palette_and_alpha),
    "P-index.png": _saved(_palette, transparency=0),
    "P-levels.png": _saved(_palette, transparency=b"\0\xff"),
    "P.gif": _saved(_palette, transparency=0),
    "L-key.png": _saved(lambda: _image(LEVEL, 3), transparency=3),
    "RGB-key.png": _saved(lambda: _image(LEVEL, 3).convert("RGB"), transparency=(3, 3, 3)),
    "I;16-key.png": _saved(lambda: _image(LEVEL * 257, 3, np.uint16), transparency=3),
    "RGB16-key.png": _deep_colour,
    "LA16.png": _deep_grey_and_alpha,
}


@pytest.mark.parametrize("name", TRANSPARENT)
@pytest.mark.parametrize("background", [255, 0, 100])
def test_what_is_transparent_shows_the_background(
    name: str, background: int, tmp_path: Path
) -> None:
    TRANSPARENT[name](tmp_path / name)
    expected = np.where(INK, LEVEL, background)
    for channels in (1, 3):
        found = read(tmp_path / name, as_data(channels, (background,) * 3))
        assert found.dtype == np.uint8
        for channel in np.moveaxis(found, -1, 0):
            np.testing.assert_array_equal(channel, expected)


def test_a_bilevel_picture_may_be_transparent_too(tmp_path: Path) -> None:
    _image(0, 255).convert("1").save(tmp_path / "1.png", transparency=255)
    found = read(tmp_path / "1.png", as_data(1, (100, 100, 100)))
    np.testing.assert_array_equal(found[..., 0], np.where(INK, 0, 100))


OPAQUE: dict[str, Save] = {
    "L.png": _saved(lambda: _image(LEVEL, 220)),
    "RGB.png": _saved(lambda: _image(LEVEL, 220).convert("RGB")),
    "P.png": _saved(lambda: _image(LEVEL, 220).convert("P")),
    "I;16.png": _saved(lambda: _image(LEVEL * 257, 220 * 257, np.uint16)),
    "I;16B.tiff": _saved(lambda: _image(LEVEL * 257, 220 * 257, np.dtype(">u2"))),
    "CMYK.tiff": _saved(lambda: _image(LEVEL, 220).convert("RGB").convert("CMYK")),
    "RGBX.tiff": _saved(lambda: _image(LEVEL, 220).convert("RGBX")),
    "YCbCr.tiff": _saved(lambda: _image(LEVEL, 220).convert("RGB").convert("YCbCr")),
    "LAB.tiff": _saved(lambda: _image(LEVEL, 220).convert("RGB").convert("LAB")),
    "L.jpg": _saved(lambda: _image(LEVEL, 220), quality=100),
}  # fmt: skip


@pytest.mark.parametrize("name", OPAQUE)
def test_every_opaque_mode_shows_the_same_picture(name: str, tmp_path: Path) -> None:
    OPAQUE[name](tmp_path / name)
    for channels in (1, 3):
        found = read(tmp_path / name, as_data(channels, (255, 0, 0))).astype(int)
        expected = np.where(INK, LEVEL, 220)[..., np.newaxis]
        assert abs(found - expected).max() <= (3 if name == "LAB.tiff" else 1)


@pytest.mark.parametrize("mode", ["I", "F"])
def test_depths_whose_range_nobody_states_are_refused(mode: str, tmp_path: Path) -> None:
    _image(LEVEL, 220).convert(mode).save(tmp_path / "deep.tiff")
    with pytest.raises(DataError, match=rf"deep.tiff: must have 8 or 16 bits .* got mode '{mode}'"):
        read(tmp_path / "deep.tiff", as_data(1, (0, 0, 0)))


@pytest.mark.parametrize(
    ("fit", "expected"),
    [
        ("stretch", [[10, 10, 200, 200]] * 4),
        ("crop", [[10, 10, 200, 200]] * 4),
        ("pad", [[99] * 4, [10, 10, 200, 200], [10, 10, 200, 200], [99] * 4]),
    ],
)
def test_a_picture_of_another_shape_fits_as_the_data_says(
    fit: Fit, expected: list[list[int]], tmp_path: Path
) -> None:
    halves = np.repeat([10, 200], 4).astype(np.uint8)
    Image.fromarray(np.tile(halves, (4, 1))).save(tmp_path / "wide.png")
    transform = InputTransform(image_shape=(4, 4, 1), fit=fit, background=(99, 99, 99))
    found = read(tmp_path / "wide.png", transform)[..., 0].astype(int)
    assert abs(found - expected).max() <= 12  # where the halves meet


@pytest.mark.parametrize("fit", ["stretch", "crop", "pad"])
def test_a_picture_of_the_datas_shape_stays_as_it_is(fit: Fit, tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (5, 7, 3), np.uint8)
    Image.fromarray(noise).save(tmp_path / "noise.png")
    transform = InputTransform(image_shape=(5, 7, 3), fit=fit)
    np.testing.assert_array_equal(read(tmp_path / "noise.png", transform), noise)


def test_pictures_become_one_or_three_channels(tmp_path: Path) -> None:
    _image(0, 255).save(tmp_path / "two.png")
    with pytest.raises(DataError, match="become 1 or 3 channels, the data set has 2"):
        read(tmp_path / "two.png", as_data(2, (0, 0, 0)))


@pytest.mark.parametrize("fit", ["stretch", "crop", "pad"])
@pytest.mark.parametrize("grey", [True, False])
def test_a_folder_and_a_prediction_read_the_same_pixels(
    fit: Fit, grey: bool, tmp_path: Path
) -> None:
    random = np.random.default_rng(1)
    for split in ("train", "test"):
        for label, name in enumerate("ab"):
            folder = tmp_path / split / name
            folder.mkdir(parents=True)
            for mode, (file, save) in zip(("RGB", "LA", "RGBA"), TRANSPARENT.items(), strict=False):
                height, width = random.integers(5, 40, 2)
                noise = random.integers(0, 256, (height, width, 4), np.uint8)
                Image.fromarray(noise).convert(mode).save(folder / f"{label}{mode}.png")
                save(folder / file)
    args = {"path": str(tmp_path), "size": 12, "grey": grey, "fit": fit, "background": "teal"}
    dataset = load(DatasetReference(name="image-folder", args=args))
    assert dataset.reading == Reading(fit=fit, background=(0, 128, 128))
    transform = dataset.reading.transform((12, 12, 1 if grey else 3), "dark", 0.5)
    files = sorted((tmp_path / "test").glob("*/*"))
    assert len(files) == len(dataset.test.images) == 12
    for path, image in zip(files, dataset.test.images, strict=True):
        np.testing.assert_array_equal(read(path, transform), image)


def test_a_transform_goes_to_json_and_back() -> None:
    transform = Reading(fit="pad", background=(1, 2, 3), recentre=True).transform(
        (4, 5, 3), "light", 0.7
    )
    assert transform.framing is not None
    assert InputTransform.model_validate_json(transform.model_dump_json()) == transform
