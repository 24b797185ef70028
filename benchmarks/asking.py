"""One way to ask a model for one image, timed call by call in this process; prints JSON.

    python -m benchmarks.asking predictor|call|predict|... --calls 2000

A sample of `benchmarks.latency`. The model is the paper's network, loaded as promotion loads
one, from a verified `.keras` file; its weights are as initialised, since the time does not
depend on them.
"""

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from tuner.inference.predictor import Predictor
from tuner.models import paper_cnn
from tuner.models.model_file import load_verified, sha256_of

if TYPE_CHECKING:
    import keras

_WARM_UP = 50
_PERCENTILES = {"p50": 50, "p95": 95, "p99": 99, "max": 100}

Image = NDArray[np.uint8]
Ask = Callable[[Image], Any]


def main() -> None:
    """Prints percentiles over the calls, in milliseconds."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("way", choices=list(WAYS))
    arguments.add_argument("--calls", type=int, required=True)
    asked = arguments.parse_args()
    seconds = timed(WAYS[asked.way](loaded()), asked.calls)
    told = {name: np.percentile(seconds, of) * 1000 for name, of in _PERCENTILES.items()}
    sys.stdout.write(json.dumps(told) + "\n")


def loaded() -> "keras.Model":
    """The network, from a file and through every check."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "model.keras"
        paper_cnn.build(input_shape=(28, 28, 1), classes=10).save(file)
        return load_verified(file, sha256_of(file))


def timed(ask: Ask, calls: int) -> NDArray[np.float64]:
    """Seconds of each call, after a warm-up: an image in, an array out."""
    images = np.random.default_rng(0).integers(0, 256, (_WARM_UP, 28, 28, 1), dtype=np.uint8)
    for image in images:
        ask(image)
    seconds = np.empty(calls)
    for call in range(calls):
        image = images[call % _WARM_UP]
        started = time.perf_counter()
        ask(image)
        seconds[call] = time.perf_counter() - started
    return seconds


def _predictor(model: "keras.Model") -> Ask:
    return Predictor(model).predict_one


def _call(model: "keras.Model") -> Ask:
    return lambda image: np.asarray(model(_pixels(image), training=False))


def _predict(model: "keras.Model") -> Ask:
    return lambda image: model.predict(_pixels(image), verbose=0)


def _predict_on_batch(model: "keras.Model") -> Ask:
    return lambda image: model.predict_on_batch(_pixels(image))


def _function(model: "keras.Model") -> Ask:
    import tensorflow as tf

    function = tf.function(lambda pixels: model(pixels, training=False))
    return lambda image: function(_pixels(image)).numpy()


def _pixels(image: Image) -> NDArray[np.float32]:
    return image[np.newaxis].astype(np.float32) / np.float32(255)


WAYS: dict[str, Callable[["keras.Model"], Ask]] = {
    "predictor": _predictor,
    "call": _call,
    "predict": _predict,
    "predict_on_batch": _predict_on_batch,
    "function": _function,
}


if __name__ == "__main__":
    main()
