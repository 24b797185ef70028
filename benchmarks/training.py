"""One training in this process, ours or `model.fit`'s; prints its times and accuracy as JSON.

    python -m benchmarks.training ours --data FOLDER --precision bfloat16 --epochs 3

A sample of `benchmarks.engine`, and of no use alone. With `--wait` it says `ready` once its
libraries and images are loaded, and begins when it is told to, so that several can train at
the same moments. All times are of the machine's monotonic clock, which processes share.

The test rows are opened to show that both sides learn the same; nothing is chosen by them.
"""

import argparse
import json
import os
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, get_args

import numpy as np

from benchmarks import workload
from tuner.datasets.store import read_arrays, read_info
from tuner.models import paper_cnn
from tuner.spec.recipe import Backend
from tuner.training import training_loop
from tuner.training.data import TrainingData, load
from tuner.training.engines import backends
from tuner.training.plan import EpochReport, Outcome, TrialPlan

if TYPE_CHECKING:
    import keras

_POLICIES = {"float32": "float32", "bfloat16": "mixed_bfloat16"}


@dataclass
class Clock:
    """When the training began, and when each epoch, its validation included, had ended."""

    wait: bool
    began: float = 0.0
    ended: list[float] = field(default_factory=list)

    def begin(self) -> None:
        """Starts, after the word to do so if there will be one."""
        if self.wait:
            sys.stdout.write("ready\n")
            sys.stdout.flush()
            sys.stdin.readline()
        self.began = time.monotonic()

    def epoch_ended(self, _report: EpochReport | None = None) -> None:
        """Notes the end of an epoch; the training loop's listener."""
        self.ended.append(time.monotonic())

    def stops_after(self, _report: EpochReport) -> bool:
        """Never."""
        return False

    def pruned(self) -> bool:
        """Never."""
        return False


def main() -> None:
    """Trains as the arguments say."""
    asked = _arguments()
    os.sched_setaffinity(0, asked.cpus or os.sched_getaffinity(0))
    info = read_info(asked.data)
    clock = Clock(asked.wait)
    with tempfile.TemporaryDirectory() as folder:
        plan = workload.plan(
            info,
            Path(folder),
            validation=asked.validation,
            epochs=asked.epochs,
            precision=asked.precision,
            seed=asked.seed,
        )
        train = _ours if asked.side == "ours" else _fit
        model = train(plan, load(plan), clock, asked.backend)
    told = {"began": clock.began, "ended": clock.ended, "accuracy": _accuracy(model, info.test)}
    sys.stdout.write(json.dumps(told) + "\n")


def _arguments() -> argparse.Namespace:
    arguments = argparse.ArgumentParser()
    arguments.add_argument("side", choices=["ours", "fit"])
    arguments.add_argument("--data", type=Path, required=True)
    arguments.add_argument("--precision", choices=list(_POLICIES), required=True)
    arguments.add_argument("--backend", choices=get_args(Backend), default="tensorflow")
    arguments.add_argument("--epochs", type=int, required=True)
    arguments.add_argument("--validation", type=int, required=True)
    arguments.add_argument("--seed", type=int, default=0)
    arguments.add_argument("--cpus", type=lambda text: {int(cpu) for cpu in text.split(",")})
    arguments.add_argument("--wait", action="store_true")
    return arguments.parse_args()


def _ours(plan: TrialPlan, rows: TrainingData, clock: Clock, backend: Backend) -> "keras.Model":
    """Trains through the loop and the engine that a trainer runs, on a plan like any other."""
    engine = backends.start(backend, threads=len(os.sched_getaffinity(0)))
    plan.folder.mkdir()
    clock.begin()
    result = training_loop.train(plan, lambda _plan: rows, engine, clock)
    if result.state is not Outcome.COMPLETED or result.model is None:
        raise RuntimeError(f"the training ended as {result.state}: {result.error}")
    import keras

    return keras.models.load_model(result.model.path)


def _fit(plan: TrialPlan, rows: TrainingData, clock: Clock, backend: Backend) -> "keras.Model":
    """Trains the same network, rows and recipe as a script does today."""
    os.environ["KERAS_BACKEND"] = backend
    import keras

    keras.utils.set_random_seed(plan.seed)
    keras.config.set_dtype_policy(_POLICIES[plan.precision])
    x_train = rows.train.images.astype(np.float32) / 255
    x_val = rows.validation.images.astype(np.float32) / 255
    clock.begin()
    model = paper_cnn.build(
        input_shape=rows.image_shape, classes=rows.classes, dropout_rate=workload.DROPOUT
    )
    model.compile(
        optimizer=keras.optimizers.Adam(plan.recipe.learning_rate),
        loss="sparse_categorical_crossentropy",
        metrics=["accuracy"],
    )
    model.fit(
        x_train,
        rows.train.labels,
        batch_size=plan.recipe.batch_size,
        epochs=plan.epochs,
        validation_data=(x_val, rows.validation.labels),
        callbacks=[keras.callbacks.LambdaCallback(on_epoch_end=lambda *_: clock.epoch_ended())],
        verbose=0,
    )
    return model


def _accuracy(model: "keras.Model", folder: Path) -> float:
    """The share of the folder's images that the model reads right."""
    images, labels = read_arrays(folder)
    predicted = model.predict(images.astype(np.float32) / 255, batch_size=500, verbose=0)
    return float(np.mean(predicted.argmax(axis=1) == labels))


if __name__ == "__main__":
    main()
