"""A network whose module keeps memory that nobody gives back."""

import keras
import numpy as np
from keras import layers

KEPT: list[np.ndarray] = []


def network(*, input_shape: tuple[int, int, int], classes: int, leaked_mb: int = 0) -> keras.Model:
    KEPT.append(np.ones(leaked_mb * 2**20 // 8))
    end = layers.Dense(classes, activation="softmax")
    return keras.Sequential([layers.Input(input_shape), layers.Flatten(), end])
