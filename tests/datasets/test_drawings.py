"""Photos of drawn digits come out as the data would show the same digits."""

import contextlib
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from tuner.datasets.pictures.picture_files import read
from tuner.datasets.transform import DRAWINGS, Framing, InputTransform
from tuner.errors import DataError, ExitCode

Pixels = NDArray[np.float32]

FINE = 16
"""How many times finer than the data's pixels a reference is drawn."""


MNIST = InputTransform(
    image_shape=(28, 28, 1), framing=Framing(ground="dark", content_fraction=20 / 28)
)
"""Twenty pixels of digit in a frame of 28."""


def glyph(digit: int, side: int) -> Image.Image:
    """A digit, white on black, cropped to itself, its larger side `side` pixels."""
    canvas = Image.new("L", (600, 600))
    font = ImageFont.load_default(size=400)
    ImageDraw.Draw(canvas).text((150, 50), str(digit), fill=255, font=font)
    cropped = canvas.crop(canvas.getbbox())
    scale = side / max(cropped.size)
    size = (round(cropped.width * scale), round(cropped.height * scale))
    return cropped.resize(size, Image.Resampling.LANCZOS)


def as_mnist(digit: int) -> Pixels:
    """What the data would hold: the digit's centre of mass in the middle of pixel (14, 14).

    Drawn `FINE` times as large, then averaged, so that nothing is rounded to whole pixels.
    """
    ink = np.asarray(glyph(digit, 20 * FINE), dtype=np.float64) / 255
    rows, columns = np.indices(ink.shape) + 0.5
    top, left = (round(14.5 * FINE - np.average(axis, weights=ink)) for axis in (rows, columns))
    frame = np.zeros((28 * FINE, 28 * FINE))
    frame[top : top + ink.shape[0], left : left + ink.shape[1]] = ink
    averaged: Pixels = frame.reshape(28, FINE, 28, FINE).mean(axis=(1, 3)).astype(np.float32)
    return averaged


def photo(
    digit: int, *, dark_ink: bool = True, side: int = 200, at: tuple[int, int] = (45, 30)
) -> Image.Image:
    """A colour photo of the digit on paper that is unevenly lit, with sensor noise."""
    cover = Image.new("L", (400, 320))
    cover.paste(glyph(digit, side), at)
    ink = np.asarray(cover, dtype=np.float64)[..., np.newaxis] / 255
    light = np.linspace(0.95, 0.7, 400)[np.newaxis, :, np.newaxis]
    paper = light * np.array([1.0, 0.97, 0.9])
    pen = light * np.array([0.15, 0.15, 0.35])
    ground, drawn = (paper, pen) if dark_ink else (pen, paper)
    noise = np.random.default_rng(digit).normal(0, 0.02, (320, 400, 3))
    values = (ground * (1 - ink) + drawn * ink + noise).clip(0, 1)
    return Image.fromarray((values * 255).astype(np.uint8))


def likeness(found: NDArray[Any], original: Pixels) -> float:
    """Correlation of the pixels, none of them moved."""
    return float(np.corrcoef(found.ravel(), original.ravel())[0, 1])


@pytest.mark.parametrize("dark_ink", [True, False], ids=["dark-on-light", "light-on-dark"])
@pytest.mark.parametrize("background", ["dark", "light"])
def test_every_digit_is_found_upright_and_in_the_datas_polarity(
    background: Literal["dark", "light"], dark_ink: bool, tmp_path: Path
) -> None:
    originals = [as_mnist(digit) for digit in range(10)]
    path = tmp_path / "photo.png"
    for digit in range(10):
        photo(digit, dark_ink=dark_ink).save(path)
        found = read(
            path,
            MNIST.model_copy(
                update={"framing": Framing(ground=background, content_fraction=20 / 28)}
            ),
        )
        assert found.shape == (28, 28, 1)
        assert found.dtype == np.float32
        shown = found if background == "dark" else 1 - found
        alike = [likeness(shown, original) for original in originals]
        assert np.argmax(alike) == digit
        assert alike[digit] > 0.98
        assert shown[0].max() == 0


@settings(max_examples=15, deadline=None)
@given(side=st.integers(40, 280), left=st.integers(10, 100), top=st.integers(8, 30))
def test_size_and_place_in_the_photo_do_not_matter(
    side: int, left: int, top: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("photo") / "photo.png"
    photo(5, side=side, at=(left, top)).save(path)
    found = read(path, MNIST)
    alike = [likeness(found, as_mnist(digit)) for digit in range(10)]
    assert np.argmax(alike) == 5
    assert alike[5] > 0.98


def _sixteen_bit(picture: Image.Image) -> Image.Image:
    grey = np.asarray(picture.convert("L"), dtype=np.uint16)
    return Image.fromarray(grey * np.uint16(257))


def _ink_alone(picture: Image.Image, level: int) -> Image.Image:
    """The ink in one grey level, all else transparent."""
    ink = Image.new("L", picture.size)
    ink.paste(glyph(2, 200), (45, 30))
    flat = Image.new("L", picture.size, level)
    return Image.merge("LA", (flat, ink)).convert("RGBA")


@pytest.mark.parametrize(
    ("name", "convert"),
    [
        ("grey.png", lambda picture: picture.convert("L")),
        ("colour.jpg", lambda picture: picture),
        ("palette.gif", lambda picture: picture.convert("P")),
        ("bilevel.png", lambda picture: picture.convert("L").point(lambda v: v > 130, "1")),
        ("print.tiff", lambda picture: picture.convert("CMYK")),
        ("deep.png", _sixteen_bit),
        ("float.tiff", lambda picture: picture.convert("F")),
        ("black-on-nothing.png", lambda picture: _ink_alone(picture, 0)),
        ("white-on-nothing.png", lambda picture: _ink_alone(picture, 255)),
        ("nothing.webp", lambda picture: _ink_alone(picture, 0)),
    ],
)
def test_every_kind_of_picture_shows_the_same_digit(
    name: str, convert: object, tmp_path: Path
) -> None:
    assert callable(convert)
    convert(photo(2)).save(tmp_path / name)
    assert likeness(read(tmp_path / name, MNIST), as_mnist(2)) > 0.98


def test_a_photo_is_turned_as_its_camera_was_held(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # shown upright after a quarter turn clockwise
    photo(4).transpose(Image.Transpose.ROTATE_90).save(tmp_path / "photo.jpg", exif=exif)
    assert likeness(read(tmp_path / "photo.jpg", MNIST), as_mnist(4)) > 0.98


def test_an_image_of_the_data_set_is_taken_as_it_is(tmp_path: Path) -> None:
    original = (as_mnist(7) * 255).round().astype(np.uint8)
    Image.fromarray(original).save(tmp_path / "seven.png")
    found = read(tmp_path / "seven.png", MNIST)
    np.testing.assert_array_equal(found[..., 0], original.astype(np.float32) / 255)


def test_its_negative_shows_the_same_digit(tmp_path: Path) -> None:
    original = (as_mnist(7) * 255).round().astype(np.uint8)
    Image.fromarray(255 - original).save(tmp_path / "seven.png")
    assert likeness(read(tmp_path / "seven.png", MNIST), as_mnist(7)) > 0.98


def test_without_a_plain_background_the_centre_is_cropped(tmp_path: Path) -> None:
    stripes = np.zeros((100, 300, 3), np.uint8)
    for channel, stripe in enumerate(np.array_split(np.arange(300), 3)):
        stripes[:, stripe, channel] = 255
    Image.fromarray(stripes).save(tmp_path / "stripes.png")
    found = read(tmp_path / "stripes.png", DRAWINGS.transform((32, 32, 3), "mixed", 1.0))
    assert found.shape == (32, 32, 3)
    green = np.broadcast_to([0.0, 1.0, 0.0], (32, 28, 3))
    np.testing.assert_allclose(found[:, 2:-2] / 255, green, atol=0.02)


def _noisy_paper(path: Path) -> None:
    noise = np.random.default_rng(0).normal(220, 6, (300, 400))
    Image.fromarray(noise.clip(0, 255).astype(np.uint8)).save(path)


def _cut_short(path: Path) -> None:
    photo(1).save(path)
    path.write_bytes(path.read_bytes()[:3000])


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda _: None, "there is no such file"),
        (lambda path: path.mkdir(), "cannot be read as a picture"),
        (lambda path: path.write_bytes(b""), "is no picture"),
        (lambda path: path.write_text("a seven"), "is no picture"),
        (_cut_short, "cannot be read as a picture"),
        (lambda path: Image.new("L", (50, 50), 200).save(path), "nothing stands out"),
        (_noisy_paper, "nothing stands out"),
    ],
    ids=["missing", "folder", "empty", "text", "truncated", "blank", "noisy-paper"],
)
def test_what_shows_no_digit_is_refused(make: object, reason: str, tmp_path: Path) -> None:
    path = tmp_path / "photo.png"
    assert callable(make)
    make(path)
    with pytest.raises(DataError, match=f"photo.png: .*{reason}") as refused:
        read(path, MNIST)
    assert refused.value.exit_code == ExitCode.DATA_OR_MODEL


def test_a_picture_too_large_to_decode_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    photo(1).save(tmp_path / "photo.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 400 * 320 - 1)
    with pytest.raises(DataError, match="must have at most 127999 pixels"):
        read(tmp_path / "photo.png", MNIST)


@settings(max_examples=60, deadline=None)
@given(
    place=st.floats(0, 1, exclude_max=True),
    value=st.integers(0, 255),
    kind=st.sampled_from(["png", "jpg", "tiff", "gif"]),
)
def test_a_damaged_picture_is_read_or_refused(
    place: float, value: int, kind: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("damaged") / f"photo.{kind}"
    photo(3).resize((80, 64)).save(path)
    content = bytearray(path.read_bytes())
    content[int(place * len(content))] = value
    path.write_bytes(content)
    with contextlib.suppress(DataError):  # any other error fails the test
        assert read(path, MNIST).shape == (28, 28, 1)
