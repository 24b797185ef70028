"""A real MLflow store that holds the run of a tiny network, and candidates for promotion."""

import functools
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, log_loss
from sqlalchemy import delete

from tuner.datasets.split import stratified_split
from tuner.datasets.store import DatasetInfo
from tuner.home import Home
from tuner.models.model_file import sha256_of
from tuner.promotion.candidate import Candidate, Validated
from tuner.promotion.judging.kept_model import load_kept
from tuner.promotion.promote import promote
from tuner.promotion.registry.publication import pack
from tuner.promotion.registry.publication import publish as publish_packed
from tuner.promotion.report import PromotionReport
from tuner.spec.study_spec import Promotion, StudySpec
from tuner.storage import tables
from tuner.storage.database import Database
from tuner.storage.opening import open_database
from tuner.storage.studies import Catalog, Registrations
from tuner.storage.test_set_accesses import TestSetAccesses
from tuner.tracking.mlflow.connection import connected
from tuner.tracking.settings import TrackingSettings
from tuner.training.plan import ModelPlan

VALIDATION_ROWS = 300
STUDY = "digits-study"


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
    return TestSetAccesses(database, Catalog(database).get(STUDY))


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


MakeCandidate = Callable[..., Candidate]
Publish = Callable[..., int]
Promote = Callable[..., PromotionReport]


@pytest.fixture(scope="session")
def model_files() -> dict[str, Path]:
    """The files of all candidates, by their SHA-256."""
    return {}


@pytest.fixture
def make_candidate(
    request: pytest.FixtureRequest,
    digits: DatasetInfo,
    model_file: Path,
    model_files: dict[str, Path],
    make_run: RunMaker,
) -> MakeCandidate:
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
        sha256 = sha256_of(file)
        model_files[sha256] = file
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
            model_sha256=sha256,
            train_time_s=1.5,
            dataset=digits,
            promotion=Promotion.model_validate(
                {"model": request.node.name, "gates": gates or {"test_accuracy": 0.5}}
            ),
        )

    return make


@pytest.fixture
def publish(
    settings: TrackingSettings, registrations: Registrations, model_files: dict[str, Path]
) -> Publish:
    """Registers a candidate as champion, judged by nobody."""

    def run(candidate: Candidate, known: Registrations = registrations, **figures: float) -> int:
        file = model_files[candidate.model_sha256]
        kept = load_kept(candidate.model_copy(update={"validated": None}), file)
        with connected(settings) as client, TemporaryDirectory() as folder:
            packed = pack(candidate, kept, Path(folder))
            told = {"test_accuracy": 0.9, **figures}
            return publish_packed(client, candidate, packed, told, known)

    return run


@pytest.fixture
def published(make_candidate: MakeCandidate, publish: Publish) -> Candidate:
    """A candidate that is the champion."""
    candidate = make_candidate()
    publish(candidate)
    return candidate


@pytest.fixture
def said() -> list[str]:
    """What the promotion said."""
    return []


@pytest.fixture
def run_promotion(
    settings: TrackingSettings,
    tmp_path: Path,
    looks: TestSetAccesses,
    registrations: Registrations,
    said: list[str],
) -> Promote:
    """Judges a candidate, and registers it if it passes."""

    def run(candidate: Candidate, **options: Any) -> PromotionReport:
        home = Home(tmp_path)
        return promote(candidate, settings, home, looks, registrations, say=said.append, **options)

    return run


def stored_file(settings: TrackingSettings, candidate: Candidate) -> Path:
    """Where the local store keeps the champion's model file."""
    with connected(settings) as client:
        version = client.get_model_version_by_alias(candidate.promotion.model, "champion")
        location = client.get_model_version_download_uri(version.name, version.version)
    return Path(location.removeprefix("file://")) / "data" / "model.keras"
