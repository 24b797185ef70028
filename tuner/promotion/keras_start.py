"""Starts Keras without a word: TensorFlow greets on standard error, whatever its log level."""

import os
from pathlib import Path

from tuner.training.output import output_to


def start_keras(home: Path) -> None:
    """Imports Keras and brings its backend up; what they print goes to `home/keras.log`."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    os.environ["KERAS_BACKEND"] = "tensorflow"  # what the trainers used
    with output_to(home / "keras.log"):
        import keras

        keras.ops.zeros(1)  # the devices are looked for at the first operation
