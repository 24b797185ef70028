"""Latency: the time of one prediction, with the code that `tuner predict` uses.

A backend reads its number of threads once, when its runtime starts. So the calls run in a
process of their own, on one thread of the CPU, `python -m tuner.inference.latency`
(`tuner.children.answer_one`).
"""

import os
import time
from collections import deque
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from tuner.children import DiedError, answer_one, ask
from tuner.errors import ModelError
from tuner.inference.predictor import Predictor
from tuner.models.known_models import register_classes
from tuner.models.model_file import load_verified
from tuner.spec.section import Frozen
from tuner.training.plan import ModelPlan

if TYPE_CHECKING:
    import keras

WARM_CALLS = 1000
_WARM_UP_CALLS = 50
_LONGEST_S = 600
_ONE_CPU_THREAD = {
    "CUDA_VISIBLE_DEVICES": "-1",
    "JAX_PLATFORMS": "cpu",
    "OMP_NUM_THREADS": "1",
    "PJRT_NPROC": "1",
    "TF_NUM_INTRAOP_THREADS": "1",
    "TF_NUM_INTEROP_THREADS": "1",
}


class LatencyRequest(Frozen):
    """A request to time a model file with a recorded SHA-256."""

    path: Path
    sha256: str
    model: ModelPlan
    """The model function that built it, whose module may define layers."""


class Latency(Frozen):
    """Percentiles over `calls` warm calls with one image each, in milliseconds."""

    p50_ms: float
    p95_ms: float
    p99_ms: float
    calls: int


def measure(model_path: Path, sha256: str, model: ModelPlan) -> Latency:
    """Measures 1,000 warm calls in a fresh process on one CPU thread.

    Raises:
        UsageError, ModelError: the model's code or file cannot be loaded, or the process dies or
            takes longer than 600 s.
    """
    request = LatencyRequest(path=model_path, sha256=sha256, model=model)
    printed = deque(["it printed nothing"], maxlen=1)
    try:
        return ask(
            ("-m", "tuner.inference.latency"),
            request,
            Latency,
            within_s=_LONGEST_S,
            output=printed.append,
            env=os.environ | _ONE_CPU_THREAD,
        )
    except (DiedError, TimeoutError) as error:
        raise ModelError(
            f"{model_path}: the process in which {WARM_CALLS} calls must take less than "
            f"{_LONGEST_S} s ended without an answer: {error}; it last printed: {printed[-1]}"
        ) from error


def time_calls(model: "keras.Model", calls: int = WARM_CALLS) -> Latency:
    """Times single-image calls of a registered model in this process, after a warm-up."""
    predictor = Predictor(model, "bytes")
    shape = (_WARM_UP_CALLS, *predictor.image_shape)
    images = np.random.default_rng(0).random(shape, dtype=np.float32)
    for image in images:
        predictor.predict_one(image)
    seconds = np.empty(calls)
    for call in range(calls):
        started = time.perf_counter()
        predictor.predict_one(images[call % len(images)])
        seconds[call] = time.perf_counter() - started
    p50, p95, p99 = np.percentile(seconds * 1000, [50, 95, 99])
    return Latency(p50_ms=float(p50), p95_ms=float(p95), p99_ms=float(p99), calls=calls)


def _answer(line: bytes) -> Latency:
    request = LatencyRequest.model_validate_json(line)
    register_classes(request.model.name, request.model.code_path)
    return time_calls(load_verified(request.path, request.sha256))


if __name__ == "__main__":
    answer_one(_answer)
