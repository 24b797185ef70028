"""What the rivals share: arguments, arrays, the network, and how the answer is printed."""

import argparse
import json
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import keras

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

LEARNING_RATE = (1e-4, 1e-2)
DROPOUT_RATE = (0.2, 0.7)
BATCH = 128
FIRST = {"learning_rate": 0.001, "dropout_rate": 0.5}
"""The point that is tried first wherever a tool can be told: the paper's."""


@dataclass(frozen=True)
class Arrays:
    """Images as floats in [0, 1], shape (N, 28, 28, 1), and their labels."""

    x_train: NDArray[np.float32]
    y_train: NDArray[np.int64]
    x_val: NDArray[np.float32]
    y_val: NDArray[np.int64]


def arguments(description: str | None) -> argparse.ArgumentParser:
    """What every rival is asked for."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--data", type=Path, required=True, help="an .npz file, already split")
    parser.add_argument("--folder", type=Path, required=True, help="where its state goes")
    parser.add_argument("--trials", type=int, required=True)
    parser.add_argument("--epochs", type=int, required=True)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--policy", default="float32", help="Keras' dtype policy")
    return parser


def load(path: Path) -> Arrays:
    """Reads the arrays and scales the pixels once."""
    with np.load(path) as file:
        return Arrays(
            x_train=file["x_train"].astype(np.float32) / 255,
            y_train=file["y_train"],
            x_val=file["x_val"].astype(np.float32) / 255,
            y_val=file["y_val"],
        )


def build(learning_rate: float, dropout_rate: float, policy: str) -> "keras.Model":
    """The paper's network, compiled."""
    import keras
    from keras import layers

    keras.config.set_dtype_policy(policy)
    model = keras.Sequential(
        [
            layers.Input((28, 28, 1)),
            layers.Conv2D(32, 3, activation="relu"),
            layers.MaxPooling2D(2),
            layers.Conv2D(64, 3, activation="relu"),
            layers.MaxPooling2D(2),
            layers.Flatten(),
            layers.Dense(128, activation="relu"),
            layers.Dropout(dropout_rate),
            layers.Dense(10, activation="softmax", dtype="float32"),
        ]
    )
    model.compile(
        optimizer=keras.optimizers.Adam(learning_rate),
        loss="sparse_categorical_crossentropy",
        metrics=["accuracy"],
    )
    return model


def answer(best_val_accuracy: float | None, trials: int) -> None:
    """Prints what the sweep found, as the last line; `trials` have trained all their epochs."""
    if best_val_accuracy is None:
        raise SystemExit("no trial came to an end")
    told: dict[str, Any] = {"best_val_accuracy": best_val_accuracy, "trials": trials}
    sys.stdout.write(json.dumps(told) + "\n")
