"""A tiny network trained on the digits once, and a real MLflow store that holds its run."""

import functools
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.datasets import load_digits
from sklearn.metrics import accuracy_score, log_loss
from sqlalchemy import delete

from tuner.datasets.split import stratified_split
from tuner.datasets.store import DatasetInfo
from tuner.home import Home
from tuner.models.model_file import sha256_of
from tuner.promotion.candidate import Candidate, Validated
from tuner.promotion.judging.kept_model import load_kept
from tuner.promotion.registry.publication import pack, publish
from tuner.spec.study_spec import Promotion, StudySpec
from tuner.storage import tables
from tuner.storage.database import Database
from tuner.storage.opening import open_database
from tuner.storage.studies import Catalog, Registrations
from tuner.storage.test_set_accesses import TestSetAccesses
from tuner.tracking.mlflow.connection import connected
from tuner.tracking.settings import TrackingSettings
from tuner.training.plan import ModelPlan

TRAINING_ROWS = 1400
VALIDATION_ROWS = 300
STUDY = "digits-study"


@pytest.fixture(scope="session")
def digits(tmp_path_factory: pytest.TempPathFactory) -> DatasetInfo:
    """The 1,797 digits of scikit-learn, prepared as the data set store lays them out."""
    folder = tmp_path_factory.mktemp("digits")
    images, labels = load_digits(return_X_y=True)
    pixels = (images.reshape(-1, 8, 8, 1) / 16 * 255).round().astype(np.uint8)
    for name, rows in (("train", slice(TRAINING_ROWS)), ("test", slice(TRAINING_ROWS, None))):
        (folder / name).mkdir()
        np.save(folder / name / "images.npy", pixels[rows])
        np.save(folder / name / "labels.npy", labels[rows].astype(np.int64))
    return DatasetInfo(
        name="digits",
        digest="d1" * 32,
        source="scikit-learn",
        folder=folder,
        image_shape=(8, 8, 1),
        classes=tuple("0123456789"),
        train_count=TRAINING_ROWS,
        test_count=len(labels) - TRAINING_ROWS,
        background="dark",
        content_fraction=1.0,
    )


@pytest.fixture(scope="session")
def model_file(digits: DatasetInfo, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A dense network with dropout, trained for a few epochs."""
    return _trained(digits, tmp_path_factory.mktemp("model") / "model.keras", seed=0)


@pytest.fixture(scope="session")
def other_model_file(digits: DatasetInfo, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same network from another seed."""
    return _trained(digits, tmp_path_factory.mktemp("other") / "model.keras", seed=1)


@pytest.fixture(scope="session")
def worse_model_file(digits: DatasetInfo, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same network, hardly trained."""
    return _trained(digits, tmp_path_factory.mktemp("worse") / "model.keras", seed=2, epochs=0)


@pytest.fixture(scope="session")
def unscaled_model_file(model_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The trained network as a file that has lost what its first layer scaled by."""
    import keras

    path = tmp_path_factory.mktemp("unscaled") / "model.keras"
    model = keras.saving.load_model(model_file)
    kernel = next(each for each in model.weights if each.name == "kernel")
    kernel.assign(kernel.numpy() / 3)
    model.save(path)
    return path


def _trained(digits: DatasetInfo, path: Path, seed: int, epochs: int = 8) -> Path:
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    import keras

    keras.utils.set_random_seed(seed)
    model = keras.Sequential(
        [
            keras.Input(digits.image_shape),
            keras.layers.Flatten(),
            keras.layers.Dense(32, activation="relu"),
            keras.layers.Dropout(0.2),
            keras.layers.Dense(10, activation="softmax"),
        ]
    )
    images = np.load(digits.train / "images.npy").astype(np.float32) / 255
    labels = np.load(digits.train / "labels.npy")
    model.compile("adam", "sparse_categorical_crossentropy")
    model.fit(images, labels, batch_size=32, epochs=epochs, verbose=0)
    model.save(path)
    return path


@pytest.fixture(scope="session")
def settings(tmp_path_factory: pytest.TempPathFactory) -> TrackingSettings:
    """A real MLflow store of this session: SQLite and a folder."""
    home = tmp_path_factory.mktemp("mlflow")
    return TrackingSettings.from_environment(home, {})


@functools.cache
def validated(file: Path, dataset: DatasetInfo) -> Validated:
    """What a study with this data set records of the model in the file, by Keras' own measure."""
    import keras

    images, labels = (np.load(dataset.train / f"{name}.npy") for name in ("images", "labels"))
    _, rows = stratified_split(labels, VALIDATION_ROWS, seed=0)
    model = keras.saving.load_model(file, compile=False)
    found = model.predict(images[rows] / np.float32(255), verbose=0).astype(np.float64)
    return Validated(
        rows=VALIDATION_ROWS,
        split_seed=0,
        loss=float(log_loss(labels[rows], found / found.sum(axis=1, keepdims=True))),
        accuracy=float(accuracy_score(labels[rows], found.argmax(axis=1))),
    )


@pytest.fixture(scope="session")
def database(digits: DatasetInfo, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Database]:
    """A real database with one study, without trials."""
    spec = StudySpec.model_validate(
        {"name": STUDY, "dataset": "digits", "model": "dense", "epochs": 1, "validation": 300}
    )
    with open_database(Home(tmp_path_factory.mktemp("database"))) as opened:
        Catalog(opened).create(spec, "study.yaml", (), digits)
        yield opened


@pytest.fixture
def looks(database: Database) -> TestSetAccesses:
    """The looks at the study's test set: none so far."""
    with database.engine.begin() as connection:
        connection.execute(delete(tables.test_set_accesses))
    return TestSetAccesses(database, STUDY)


@pytest.fixture
def registrations(database: Database) -> Registrations:
    """What the study has registered."""
    return Registrations(database, STUDY)


RunMaker = Callable[[Path], str]


@pytest.fixture(scope="session")
def make_run(settings: TrackingSettings) -> RunMaker:
    """Makes a finished run that keeps a model file, as the shipper leaves one."""

    def make(file: Path) -> str:
        with connected(settings) as client:
            experiment = client.get_experiment_by_name("tuner")
            experiment_id = (
                experiment.experiment_id
                if experiment
                else client.create_experiment("tuner", Path(settings.artifact_root).as_uri())
            )
            run_id = str(client.create_run(experiment_id, start_time=1000).info.run_id)
            client.log_artifact(run_id, str(file), "model")
            client.set_tag(run_id, "tuner.model.sha256", sha256_of(file))
            client.log_metric(run_id, "val_accuracy", 0.9, timestamp=1500, step=1)
            client.set_terminated(run_id, "FINISHED", end_time=2000)
        return run_id

    return make


CandidateMaker = Callable[..., Candidate]


@pytest.fixture
def make_candidate(
    request: pytest.FixtureRequest, digits: DatasetInfo, model_file: Path, make_run: RunMaker
) -> CandidateMaker:
    """Makes candidates for a registered model that is this test's own."""

    def make(
        file: Path = model_file,
        *,
        gates: dict[str, float] | None = None,
        number: int = 3,
        recorded: Path | None = None,
        study_uid: str = "5a" * 16,
    ) -> Candidate:
        """The model in `file`, with the figures that were recorded of the one in `recorded`."""
        return Candidate(
            model=ModelPlan(name="paper-cnn"),
            backend="tensorflow",
            study=STUDY,
            study_uid=study_uid,
            number=number,
            run_id=make_run(file),
            params={"learning_rate": 0.001},
            metric="val_accuracy",
            value=0.9,
            validated=validated(recorded or file, digits),
            model_sha256=sha256_of(file),
            train_time_s=1.5,
            dataset=digits,
            promotion=Promotion.model_validate(
                {"model": request.node.name, "gates": gates or {"test_accuracy": 0.5}}
            ),
        )

    return make


@pytest.fixture
def publish_candidate(
    settings: TrackingSettings, registrations: Registrations
) -> Callable[..., int]:
    """Registers a candidate as champion, judged by nobody."""

    def run(
        candidate: Candidate,
        file: Path,
        known: Registrations = registrations,
        **figures: float,
    ) -> int:
        kept = load_kept(candidate.model_copy(update={"validated": None}), file)
        with connected(settings) as client, TemporaryDirectory() as folder:
            packed = pack(candidate, kept, Path(folder))
            told = {"test_accuracy": 0.9, **figures}
            return publish(client, candidate, packed, told, known)

    return run


def stored_file(settings: TrackingSettings, candidate: Candidate) -> Path:
    """Where the local store keeps the champion's model file."""
    with connected(settings) as client:
        version = client.get_model_version_by_alias(candidate.promotion.model, "champion")
        location = client.get_model_version_download_uri(version.name, version.version)
    return Path(location.removeprefix("file://")) / "data" / "model.keras"


@pytest.fixture
def damaged(model_file: Path, tmp_path: Path) -> Path:
    """The model file with one byte of its weights flipped."""
    copy = tmp_path / "damaged" / "model.keras"
    copy.parent.mkdir()
    shutil.copyfile(model_file, copy)
    content = bytearray(copy.read_bytes())
    content[content.index(b"model.weights.h5") + 2000] ^= 0xFF
    copy.write_bytes(content)
    return copy


@pytest.fixture(scope="session")
def test_images(digits: DatasetInfo) -> NDArray[np.uint8]:
    """The test images, as a test may look at them."""
    images: NDArray[np.uint8] = np.load(digits.test / "images.npy")
    return images
