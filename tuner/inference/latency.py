"""Latency: the time of one prediction, with the code that `tuner predict` uses.

A backend reads its number of threads once, when its runtime starts. So the calls run in a
process of their own, on one thread of the CPU: `python -m tuner.inference.latency
MODEL SHA256` prints them as JSON.
"""

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from tuner.errors import ModelError, TunerError
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


class Latency(Frozen):
    """Percentiles over `calls` warm calls with one image each, in milliseconds."""

    p50_ms: float
    p95_ms: float
    p99_ms: float
    calls: int


def measure(model_path: Path, sha256: str, model: ModelPlan) -> Latency:
    """Measures 1,000 warm calls in a fresh process on one CPU thread.

    Raises:
        ModelError: the process cannot load or call the model, or takes longer than 600 s.
    """
    command = [sys.executable, "-P", "-m", "tuner.inference.latency", str(model_path), sha256]
    command.append(model.model_dump_json())
    environment = {**os.environ, **_ONE_CPU_THREAD}
    try:
        finished = subprocess.run(
            command, env=environment, capture_output=True, text=True, timeout=_LONGEST_S
        )
    except subprocess.TimeoutExpired as late:
        raise ModelError(
            f"{model_path}: {WARM_CALLS} calls must take less than {_LONGEST_S} s"
        ) from late
    if finished.returncode:
        lines = finished.stderr.strip().splitlines() or ["it said nothing"]
        raise ModelError(
            f"{model_path}: measuring its latency ended with exit {finished.returncode}: "
            f"{lines[-1]}"
        )
    return Latency.model_validate_json(finished.stdout.splitlines()[-1])


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


def main(model_path: str, sha256: str, model: str) -> int:
    """Prints the latency of a verified model file as JSON; returns the exit code."""
    built_by = ModelPlan.model_validate_json(model)
    try:
        register_classes(built_by.name, built_by.code_path)
        latency = time_calls(load_verified(Path(model_path), sha256))
    except TunerError as error:
        sys.stderr.write(f"{error}\n")
        return error.exit_code
    sys.stdout.write(latency.model_dump_json() + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
