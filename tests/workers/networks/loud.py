"""A network that prints wherever it can, and asks for input."""

import os
import subprocess
import sys

import keras

print("printed when imported")  # noqa: T201
sys.stderr.write("stderr when imported\n")


def network(
    *, input_shape: tuple[int, int, int], classes: int, note: str = "built", asks: bool = False
) -> keras.Model:
    print('{"kind": "ready"}', note)  # noqa: T201
    print("sees GPU", os.environ["CUDA_VISIBLE_DEVICES"])  # noqa: T201
    sys.stderr.write("stderr when built\n")
    os.write(1, b"from native code\n")
    subprocess.run(["echo", "from a child process"], check=True)
    if asks:
        input()
    flat, softmax = keras.layers.Flatten(), keras.layers.Dense(classes, activation="softmax")
    return keras.Sequential([keras.Input(input_shape), flat, softmax])
