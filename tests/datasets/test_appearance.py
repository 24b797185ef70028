from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tuner.datasets.builtin import digits, mnist
from tuner.datasets.pictures.appearance import measure


def test_mnist_is_dark_and_fills_twenty_of_twenty_eight_pixels(
    mnist_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(mnist_cache))
    appearance = measure(mnist.load().train.images[..., np.newaxis])
    assert appearance.background == "dark"
    assert appearance.content_fraction == pytest.approx(20 / 28)


def test_digits_are_dark_and_fill_the_image() -> None:
    appearance = measure(digits.load().train.images[..., np.newaxis])
    assert (appearance.background, appearance.content_fraction) == ("dark", 1.0)


@given(st.integers(1, 6), st.integers(1, 6), st.booleans(), st.sampled_from([1, 3]))
def test_the_larger_side_of_the_content_counts(
    height: int, width: int, light: bool, channels: int
) -> None:
    images = np.zeros((3, 8, 10, channels), np.float32)
    images[:, 1 : 1 + height, 2 : 2 + width] = 0.9
    appearance = measure(1 - images if light else images)
    assert appearance.background == ("light" if light else "dark")
    assert appearance.content_fraction == pytest.approx(max(height / 8, width / 10))


def test_photographs_are_mixed() -> None:
    images = np.random.default_rng(0).integers(0, 256, (50, 8, 8, 3), dtype=np.uint8)
    appearance = measure(images)
    assert (appearance.background, appearance.content_fraction) == ("mixed", 1.0)


def test_blank_images_do_not_count() -> None:
    images = np.zeros((5, 8, 8, 1), np.uint8)
    assert measure(images).content_fraction == 1.0
    images[0, 2:6, 3] = 255
    assert measure(images).content_fraction == 0.5


def test_images_of_one_pixel_can_be_measured() -> None:
    assert measure(np.zeros((2, 1, 1, 1), np.uint8)).background == "dark"
