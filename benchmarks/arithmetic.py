"""The physical limit: what an epoch has to compute, and how fast this machine multiplies.

    python -m benchmarks.arithmetic --precision bfloat16 [--backend jax]

prints the rate of one large matrix product in operations per second, the best of a second's
tries, as `benchmarks.engine` takes it between its trainings.
"""

import argparse
import json
import os
import sys
import time

_FORWARD = {
    "conv1": 2 * 26 * 26 * 32 * (3 * 3 * 1),
    "conv2": 2 * 11 * 11 * 64 * (3 * 3 * 32),
    "dense": 2 * 1600 * 128,
    "output": 2 * 128 * 10,
}
"""Multiplications and additions of the paper's network for one 28x28 image, layer by layer."""

FORWARD = sum(_FORWARD.values())
TRAINING = 3 * FORWARD - _FORWARD["conv1"]
"""Backward costs two products a layer, except that nobody asks for the image's gradient."""

_SECONDS = 1.0
_SIZES = {"cpu": 2048, "gpu": 8192}


def epoch_operations(train: int, validation: int) -> float:
    """Operations of one epoch of the paper's network: training rows and validation rows."""
    return float(train * TRAINING + validation * FORWARD)


def main() -> None:
    """Prints the rate of the matrix product."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--precision", choices=["float32", "bfloat16"], required=True)
    arguments.add_argument("--backend", default="tensorflow")
    arguments.add_argument("--device", choices=list(_SIZES), default="cpu")
    asked = arguments.parse_args()
    os.environ["KERAS_BACKEND"] = asked.backend
    rate = product_rate(_SIZES[asked.device], asked.precision)
    sys.stdout.write(json.dumps({"operations_per_s": rate}) + "\n")


def product_rate(size: int, precision: str) -> float:
    """Operations per second of a product of two square matrices, on all threads."""
    from keras import ops, random

    left = ops.cast(random.normal((size, size), seed=0), precision)
    float(ops.matmul(left, left)[0, 0])
    best = float("inf")
    ends = time.perf_counter() + _SECONDS
    while time.perf_counter() < ends:
        started = time.perf_counter()
        float(ops.matmul(left, left)[0, 0])  # reading a number waits for the device
        best = min(best, time.perf_counter() - started)
    return 2 * size**3 / best


if __name__ == "__main__":
    main()
