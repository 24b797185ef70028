"""A champion that a study on TensorFlow has registered, and others in its place."""

import hashlib
import json
import random
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from mlflow import MlflowClient
from mlflow.entities.model_registry import ModelVersion
from PIL import Image

from tests.faults.conftest import Place
from tuner.promotion.registry.package import PACKED_FILE
from tuner.promotion.registry.versions import ALIAS

STUDY = HOME = "champion"
PREDICT = ("predict", "digit.png", "--model", STUDY)
NOT_REGISTERED = "has not registered this file with these tags"
"""What is said of a champion that is another's."""


def promote(place: Place) -> None:
    """Trains a network, promotes it, and leaves a picture to ask it about."""
    place.write_study("champion.yaml", name=STUDY, trials=1, epochs=1, promotion={"refit": False})
    for command in (("run-study", "champion.yaml"), ("promote", "best", STUDY)):
        process = place.start(HOME, command=command, engine="tensorflow")
        assert process.wait() == 0, place.said(HOME)[-2000:]
    with np.load(place.folder / "digits.npz") as digits:
        Image.fromarray(digits["x_test"][0]).save(place.folder / "digit.png")


@contextmanager
def forged(client: MlflowClient, chance: random.Random) -> Iterator[None]:
    """Another's file, or other classes, for as long as the block lasts."""
    sound = client.get_model_version_by_alias(STUDY, ALIAS)
    forge, mend = chance.choice([(_other_file, _same_file), (_turn_classes, _restore_classes)])
    forge(client, sound)
    yield
    mend(client, sound)


def _other_file(client: MlflowClient, sound: ModelVersion) -> None:
    """Registered under its own hash, as the same trial's."""
    experiment = client.get_run(sound.run_id).info.experiment_id
    run = client.create_run(experiment)
    with TemporaryDirectory() as folder:
        file = Path(folder, Path(PACKED_FILE).name)
        file.write_bytes(b"another network")
        client.log_artifact(run.info.run_id, str(file), f"model/{Path(PACKED_FILE).parent}")
        sha256 = hashlib.sha256(file.read_bytes()).hexdigest()
    client.set_terminated(run.info.run_id)
    source = f"{run.info.artifact_uri}/model"
    tags = sound.tags | {"tuner.model.sha256": sha256}
    version = client.create_model_version(STUDY, source, run.info.run_id, tags=tags)
    client.set_registered_model_alias(STUDY, ALIAS, version.version)


def _same_file(client: MlflowClient, sound: ModelVersion) -> None:
    client.set_registered_model_alias(STUDY, ALIAS, sound.version)


def _turn_classes(client: MlflowClient, sound: ModelVersion) -> None:
    turned = json.dumps(json.loads(sound.tags["tuner.classes"])[::-1])
    client.set_model_version_tag(STUDY, sound.version, "tuner.classes", turned)


def _restore_classes(client: MlflowClient, sound: ModelVersion) -> None:
    client.set_model_version_tag(STUDY, sound.version, "tuner.classes", sound.tags["tuner.classes"])
