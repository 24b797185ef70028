"""Pictures of mixed sizes and modes: the same figures from training, promotion and predict."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw

from tests.cli.conftest import Workshop

STUDY = """
name: discs
dataset: {name: image-folder, args: {path: pictures, size: 16, grey: true}}
model: scaling:build
search_space: {learning_rate: 0.01, batch_size: 16}
pixels: bytes
precision: float32
epochs: 6
workers: 1
validation: 16
promotion: {refit: false, gates: {test_accuracy: 0.7}}
"""

SCALING = """
import keras


def build(*, input_shape, classes):
    return keras.Sequential(
        [
            keras.layers.Input(input_shape),
            keras.layers.Rescaling(1 / 255),
            keras.layers.Conv2D(4, 3, activation="relu"),
            keras.layers.Flatten(),
            keras.layers.Dense(classes, activation="softmax", dtype="float32"),
        ]
    )
"""


def draw(random: np.random.Generator, share: float, path: Path) -> None:
    """A disc of about this share of the picture, in any size, shape, mode and format."""
    width, height = (int(side) for side in random.integers(20, 70, 2))
    ink = Image.new("L", (width, height))
    share *= random.uniform(0.75, 1.3)
    left, top = width * (1 - share) / 2, height * (1 - share) / 2
    ImageDraw.Draw(ink).ellipse((left, top, width - left, height - top), fill=255)
    alpha = Image.merge("RGBA", [Image.new("L", ink.size, 20)] * 3 + [ink])
    white = Image.new("RGBA", ink.size, "white")
    opaque = Image.alpha_composite(white, alpha).convert("RGB")
    kinds: tuple[tuple[str, Image.Image], ...] = (
        ("RGBA.png", alpha),
        ("LA.png", alpha.convert("LA")),
        ("P.gif", alpha.convert("P")),
        ("RGBA.webp", alpha),
        ("RGB.jpg", opaque),
        ("L.png", opaque.convert("L")),
        ("CMYK.tiff", opaque.convert("CMYK")),
        ("deep.png", Image.fromarray(np.asarray(opaque.convert("L")).astype(np.uint16) * 257)),
    )
    name, picture = kinds[random.integers(len(kinds))]
    picture.save(path.with_name(f"{path.name}-{name}"))


@pytest.fixture(scope="module")
def discs(make_workshop: Callable[[str], Workshop]) -> Workshop:
    """A folder of small and large discs, and a study of them that has not begun."""
    workshop, random = make_workshop("discs"), np.random.default_rng(0)
    for split, count in (("train", 40), ("test", 30)):
        for name, share in (("large", 0.6), ("small", 0.4)):
            folder = workshop.folder / "pictures" / split / name
            folder.mkdir(parents=True)
            for index in range(count):
                draw(random, share, folder / f"{index:02}")
    (workshop.folder / "discs.yaml").write_text(STUDY)
    (workshop.folder / "scaling.py").write_text(SCALING)
    return workshop


@pytest.mark.slow
def test_promotion_evaluation_and_prediction_find_the_same_accuracy(discs: Workshop) -> None:
    discs.tuner("run-study", "discs.yaml")
    promoted = json.loads(discs.tuner("promote", "best", "discs", "--json").stdout)
    (evaluated,) = json.loads(discs.tuner("evaluate", "discs", "--json").stdout).values()
    files = sorted((discs.folder / "pictures" / "test").glob("*/*"))
    answers = json.loads(discs.tuner("predict", *map(str, files), "--json").stdout)

    right = [answer["label"] == Path(answer["image"]).parent.name for answer in answers]
    assert len(right) == 60
    assert promoted["metrics"]["test_accuracy"] == evaluated["accuracy"] == np.mean(right)
    said = [answer["probabilities"][Path(answer["image"]).parent.name] for answer in answers]
    assert -np.log(said).mean() == pytest.approx(evaluated["loss"], rel=1e-4)


@pytest.mark.slow
def test_pixels_in_the_wrong_range_are_refused_before_the_first_epoch(discs: Workshop) -> None:
    wrong = ["--name", "wrong", "--set", "pixels=unit"]
    refused = discs.tuner("run-study", "discs.yaml", *wrong, code=4)
    assert "scaling:build: scales pixels from [0, 255] down itself" in refused.stderr
    assert "write pixels: bytes in the study, or leave out its layer 'rescaling'" in refused.stderr
    assert "epoch 1" not in refused.stderr
