"""Rounding: how far one trained network's answers move when they are computed in another way.

    python -m benchmarks.rounding

trains 18 networks in each precision on scikit-learn's digits (about five minutes on one core),
answers the held-out images eagerly, compiled by XLA, and one by one, and prints how far the
answers are apart, as a share of what `tuner.training.rounding` allows. All shares must be under 1.
"""

import itertools
import sys
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.datasets import load_digits

from tuner.training import rounding
from tuner.training.engines.recipes import POLICIES
from tuner.training.plan import Precision
from tuner.training.scores import cross_entropy

_TRAINED = 1400
_ONE_BY_ONE = 60
_KINDS = ("dense", "convolutions", "eight convolutions")
_SCALES = (1, 255)
"""Of the pixels: large ones make large logits."""
_TRAININGS = ((1e-3, 3), (1e-3, 25), (1e-2, 25))
"""Learning rate and epochs."""

Answers = NDArray[np.float32]


def main() -> None:
    """Prints a line a network, and the largest shares of each precision."""
    for precision in POLICIES:
        worst = dict.fromkeys(("logarithm", "mean loss", "probability"), 0.0)
        for kind, scale, (rate, epochs) in itertools.product(_KINDS, _SCALES, _TRAININGS):
            found, spread = _shares(precision, _network(precision, kind, scale), rate, epochs)
            worst = {name: max(share, worst[name]) for name, share in found.items()}
            what = f"{precision}, {kind}, pixels times {scale}, rate {rate}, {epochs} epochs"
            _say(f"{what}: logits {spread:.0f} apart, {_told(found)}")
        _say(f"{precision}, the largest: {_told(worst)}")


def _network(precision: Precision, kind: str, scale: int) -> Any:
    import keras
    from keras import layers

    keras.mixed_precision.set_dtype_policy(POLICIES[precision])
    keras.utils.set_random_seed(3)
    hidden: list[Any] = [layers.Flatten(), layers.Dense(64, "relu"), layers.Dense(64, "relu")]
    if kind == "convolutions":
        hidden = [layers.Conv2D(16, 3, padding="same", activation="relu") for _ in range(3)]
        hidden.append(layers.Flatten())
    if kind == "eight convolutions":
        hidden = [
            layer
            for _ in range(8)
            for layer in (
                layers.Conv2D(16, 3, padding="same"),
                layers.BatchNormalization(),
                layers.ReLU(),
            )
        ]
        hidden.append(layers.GlobalAveragePooling2D())
    first = [keras.Input((8, 8, 1)), layers.Rescaling(scale, dtype="float32")]
    return keras.Sequential([*first, *hidden, layers.Dense(10, "softmax", dtype="float32")])


def _shares(
    precision: Precision, model: Any, rate: float, epochs: int
) -> tuple[dict[str, float], float]:
    """Trains; each difference as a share of what is allowed, and how far the logits lie apart."""
    import keras
    import tensorflow as tf

    images, labels = load_digits(return_X_y=True)
    pixels = (images.reshape(-1, 8, 8, 1) / 16).astype(np.float32)
    model.compile(keras.optimizers.Adam(rate), "sparse_categorical_crossentropy")
    model.fit(pixels[:_TRAINED], labels[:_TRAINED], batch_size=64, epochs=epochs, verbose=0)
    held_out, labels = tf.constant(pixels[_TRAINED:]), labels[_TRAINED:]

    def eager(asked: Any) -> Answers:
        return np.asarray(model(asked, training=False).numpy(), np.float32)

    compiled = tf.function(lambda asked: model(asked, training=False), jit_compile=True)
    base = eager(held_out)
    others = [
        np.asarray(compiled(held_out).numpy(), np.float32),
        np.concatenate([eager(held_out[row : row + 1]) for row in range(_ONE_BY_ONE)]),
    ]
    found = [_differences(base[: len(other)], other, labels, precision) for other in others]
    shares = {name: max(each[name] for each in found) for name in found[0]}
    smallest = np.maximum(base.min(axis=1), np.finfo(np.float32).tiny)
    return shares, float(np.log(base.max(axis=1) / smallest).mean())


def _differences(
    base: Answers, other: Answers, labels: NDArray[np.integer], precision: Precision
) -> dict[str, float]:
    rows, likeliest = np.arange(len(base)), base.argmax(axis=1)
    moved = np.abs(np.log(other[rows, likeliest] / base[rows, likeliest]))
    noise = rounding.log_noise(base, precision)
    loss = cross_entropy(other, labels[rows]) - cross_entropy(base, labels[rows])
    return {
        "logarithm": float((moved / noise).max()),
        "mean loss": abs(loss) / rounding.mean_noise(base, precision),
        "probability": rounding.distance(base, other) / (float(noise.mean()) / 2),
    }


def _told(shares: dict[str, float]) -> str:
    return ", ".join(f"{name} {share:.2g}" for name, share in shares.items())


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
