"""The images that every side of a comparison trains on, and the plan that our side is given."""

import argparse
from pathlib import Path

import numpy as np

from tuner.datasets.split import stratified_split
from tuner.datasets.store import DatasetInfo, prepare, read_arrays
from tuner.spec.objective import Objective
from tuner.spec.study_spec import DatasetReference
from tuner.training.plan import ModelPlan, Precision, TrialPlan

BATCH = 128
LEARNING_RATE = 0.001
DROPOUT = 0.5
SPLIT_SEED = 0


def add_arguments(arguments: argparse.ArgumentParser) -> None:
    """The arguments that say what is trained on."""
    arguments.add_argument(
        "--dataset", default="mnist", help="mnist, or an .npz file to try a script out on"
    )
    arguments.add_argument("--validation", type=int, default=10_000, help="rows held out")


def reference(name: str) -> DatasetReference:
    """How a study file would name the data set."""
    if name.endswith(".npz"):
        return DatasetReference(name="npz", args={"path": str(Path(name).absolute())})
    return DatasetReference(name=name)


def prepared(name: str, folder: Path) -> DatasetInfo:
    """Lays the data set out below `folder`, or finds it there."""
    return prepare(reference(name), folder)


def write_split(info: DatasetInfo, validation: int, path: Path, seed: int) -> None:
    """Writes the rows that a study of this seed trains and validates on, for others to load.

    `x_train`, `y_train`, `x_val`, `y_val`, pixels uint8 as in `keras.datasets`.
    """
    images, labels = read_arrays(info.train)
    train, held_out = stratified_split(labels, validation, seed)
    np.savez(
        path,
        x_train=images[train],
        y_train=labels[train],
        x_val=images[held_out],
        y_val=labels[held_out],
    )


def plan(
    info: DatasetInfo,
    folder: Path,
    *,
    validation: int,
    epochs: int,
    precision: Precision,
    slot: int = 0,
    seed: int = 0,
) -> TrialPlan:
    """The paper's network and recipe as a plan, one trial of a study that is in no database."""
    return TrialPlan(
        study="benchmark",
        slot=slot,
        attempt=0,
        params={"learning_rate": LEARNING_RATE, "dropout_rate": DROPOUT, "batch_size": BATCH},
        model=ModelPlan(name="paper-cnn"),
        dataset=info.train,
        classes=info.classes,
        validation=validation,
        split_seed=SPLIT_SEED,
        seed=seed,
        epochs=epochs,
        objective=Objective(),
        precision=precision,
        folder=folder / f"trial-{slot}-{seed}",
    )
