"""Starts Keras silently: TensorFlow prints to standard error at any log level."""

import os
from pathlib import Path
from typing import get_args

from tuner.spec.recipe import VARIABLE, Backend
from tuner.training.engines.backends import installed
from tuner.training.output import output_to


def start_keras(home: Path, trained_on: Backend) -> None:
    """Imports Keras and starts its backend; their output goes to `home/keras.log`.

    The backend is the one that the model was trained on, or another one if only that is installed:
    a `.keras` file works with each. A process that has imported Keras before keeps its backend.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")  # trainers may share the GPU
    others = (backend for backend in get_args(Backend) if installed(backend))
    os.environ[VARIABLE] = trained_on if installed(trained_on) else next(others, trained_on)
    with output_to(home / "keras.log"):
        import keras

        keras.ops.zeros(1)  # the backend looks for devices at the first operation
    os.environ[VARIABLE] = keras.backend.backend()  # for the process that measures the latency
