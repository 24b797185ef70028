"""A stranger's folder: a data set, a model and a study of their own, and the real command."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest

from tests.bench import Bench, ScriptedPool
from tuner.datasets.store import DatasetInfo
from tuner.home import Home
from tuner.spec.study_spec import StudySpec
from tuner.storage.opening import open_database

STUDY = """
name: shapes
dataset: shapes:load
model: networks:build
search_space:
  learning_rate: {type: float, low: 1e-3, high: 1e-1, log: true}
  width: {type: choice, choices: [8, 16]}
baseline:
  - {learning_rate: 0.01, width: 16}
pruner: none
trials: 3
epochs: 3
workers: 1
validation: 40
confirmation: off
promotion:
  model: shapes
  refit: false
  gates: {test_accuracy: 0.8, latency_p95_ms: 1000}
"""

SHAPES = '''
"""Light squares and crosses on a dark ground."""

import numpy as np

from tuner.datasets.dataset import Dataset, Split
from tuner.datasets.transform import Reading


def load():
    random = np.random.default_rng(0)
    labels = random.integers(0, 2, 300)
    images = np.zeros((300, 12, 12), np.uint8)
    for image, label in zip(images, labels):
        row, column = random.integers(1, 4, 2)
        if label:
            image[row : row + 7, column + 3] = image[row + 3, column : column + 7] = 255
        else:
            image[row : row + 7, column : column + 7] = 255
    return Dataset(
        train=Split(images[:200], labels[:200]),
        test=Split(images[200:], labels[200:]),
        classes=("0", "1"),
        source="a test",
        reading=Reading(recentre=True),
    )
'''

NETWORKS = '''
"""A small network with a layer of its own."""

import keras


@keras.saving.register_keras_serializable("shapes")
class Halved(keras.layers.Layer):
    def call(self, values):
        return values / 2


def build(*, input_shape, classes, width=8):
    print("building shapes", width)
    return keras.Sequential(
        [
            keras.layers.Input(input_shape),
            keras.layers.Flatten(),
            Halved(),
            keras.layers.Dense(width, activation="relu"),
            keras.layers.Dense(classes, activation="softmax", dtype="float32"),
        ]
    )
'''


@dataclass(frozen=True)
class Workshop:
    """A folder outside the project, and the command run in it."""

    folder: Path

    def tuner(self, *arguments: str, code: int = 0) -> "subprocess.CompletedProcess[str]":
        """Runs the command and checks its exit code."""
        done = subprocess.run(
            self.command(*arguments),
            cwd=self.folder,
            env=self.environment(),
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == code, f"exit {done.returncode}: {done.stdout}\n{done.stderr}"
        return done

    def shown(self) -> dict[str, Any]:
        """What `tuner show --json` says of the study."""
        content: dict[str, Any] = json.loads(self.tuner("show", "shapes", "--json").stdout)
        return content

    def start(
        self, *arguments: str, also: Mapping[str, str] | None = None
    ) -> "subprocess.Popen[str]":
        """Starts the command and leaves it running, with `also` in its environment."""
        return subprocess.Popen(
            self.command(*arguments),
            cwd=self.folder,
            env={**self.environment(), **(also or {})},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )

    def command(self, *arguments: str) -> list[str]:
        return [sys.executable, "-P", "-m", "tuner", *arguments]

    def environment(self) -> dict[str, str]:
        ours = {"TUNER_HOME": str(self.folder / ".tuner"), "COLUMNS": "200"}
        return {**os.environ, **ours}


@pytest.fixture(scope="session")
def make_workshop(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Workshop]:
    """Makes a folder with the study of the given name in it."""

    def make(name: str) -> Workshop:
        folder = tmp_path_factory.mktemp(name)
        (folder / "shapes.py").write_text(dedent(SHAPES))
        (folder / "networks.py").write_text(dedent(NETWORKS))
        (folder / "study.yaml").write_text(f"{STUDY}precision: float32\n")
        return Workshop(folder)

    return make


@pytest.fixture(scope="session")
def finished(make_workshop: Callable[[str], Workshop]) -> Workshop:
    """A workshop whose study has been run once, to its end."""
    workshop = make_workshop("finished")
    (workshop.folder / "study.yaml").write_text(STUDY)
    # One thread a trainer on two cores, so that a training can be repeated bit for bit.
    done = workshop.tuner("run-study", "study.yaml", "--workers", "2")
    (workshop.folder / "run.log").write_text(done.stderr)
    return workshop


def study_without_training(home: Home, name: str, trials: int = 4) -> None:
    """Runs a study in the home whose trials nobody trains."""
    dataset = DatasetInfo(
        name="digits", digest="0" * 64, source="a test", folder=home.root, image_shape=(8, 8, 1),
        classes=("0", "1"), train_count=100, test_count=20, background="dark", content_fraction=1,
    )  # fmt: skip
    spec = StudySpec.model_validate(
        {
            "name": name,
            "dataset": "digits",
            "model": "paper-cnn",
            "search_space": {"dropout_rate": {"type": "float", "low": 0, "high": 1}},
            "trials": trials,
            "epochs": 1,
            "validation": 10,
            "pruner": "none",
        }
    )
    with open_database(home) as database:
        bench = Bench(home, database, dataset)
        bench.run(spec, ScriptedPool(curve=lambda plan, _: float(plan.params["dropout_rate"])))


@pytest.fixture
def studied(home: Home) -> Home:
    """A home with a study called `small`, whose trials nobody trained."""
    study_without_training(home, "small")
    return home
