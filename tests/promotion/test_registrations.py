"""A writer of MLflow cannot make a study's champion answer with what it never registered."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import numpy as np
import pytest

from tests.promotion.conftest import STUDY, MakeCandidate, Publish
from tuner.datasets.store import DatasetInfo
from tuner.errors import ModelError, RefusedError
from tuner.home import Home
from tuner.models.model_file import sha256_of
from tuner.promotion.candidate import Candidate
from tuner.promotion.judging.comparison import find_incumbent
from tuner.promotion.judging.evidence import HeldOut
from tuner.promotion.judging.kept_model import load_kept
from tuner.promotion.registry.classification import Classifier
from tuner.promotion.registry.package import log_package
from tuner.promotion.registry.publication import pack
from tuner.promotion.registry.versions import create_version, crown, digest, version_tags
from tuner.spec.study_spec import StudySpec
from tuner.storage.opening import open_database
from tuner.storage.studies import Catalog, Registrations
from tuner.storage.test_set_accesses import TestSetAccesses
from tuner.tracking.mlflow.connection import connected
from tuner.tracking.settings import TrackingSettings

if TYPE_CHECKING:
    from mlflow import MlflowClient


@pytest.fixture
def candidate(informed: tuple[Home, Registrations], make_candidate: MakeCandidate) -> Candidate:
    """A trial of the study that the home knows."""
    with open_database(informed[0]) as database:
        return make_candidate(study_uid=Catalog(database).get(STUDY).uid)


@pytest.fixture
def informed(tmp_path: Path, digits: DatasetInfo) -> Iterator[tuple[Home, Registrations]]:
    """A home whose database has the study."""
    home = Home(tmp_path / "informed")
    spec = StudySpec.model_validate(
        {"name": STUDY, "dataset": "digits", "model": "dense", "epochs": 1, "validation": 300}
    )
    with open_database(home) as database:
        Catalog(database).create(spec, "study.yaml", (), digits)
        yield home, Registrations(database, STUDY)


def another_file(client: "MlflowClient", candidate: Candidate, other: Path) -> None:
    """Registers another network under its own hash, as the candidate's, and moves the alias."""
    example = np.zeros((1, *candidate.dataset.image_shape), np.uint8)
    with TemporaryDirectory() as folder:
        forged = candidate.model_copy(update={"model_sha256": sha256_of(other), "validated": None})
        packed = pack(forged, load_kept(forged, other), Path(folder))
        name = candidate.promotion.model
        model_id = log_package(client, candidate.run_id, name, packed.file, example, classes=10)
        tags = version_tags(candidate, {"test_accuracy": 0.99}, packed.sha256)
        crown(client, create_version(client, candidate, model_id, tags))


def other_classes(client: "MlflowClient", candidate: Candidate, _other: Path) -> None:
    """Turns the answers of the true file around."""
    turned = json.dumps(candidate.dataset.classes[::-1])
    client.set_model_version_tag(candidate.promotion.model, "1", "tuner.classes", turned)


@pytest.mark.slow_variants
@pytest.mark.parametrize("forge", [another_file, other_classes])
def test_the_registry_cannot_change_what_a_study_has_registered(
    forge: Callable[..., None],
    candidate: Candidate,
    informed: tuple[Home, Registrations],
    publish: Publish,
    settings: TrackingSettings,
    other_model_file: Path,
    looks: TestSetAccesses,
) -> None:
    (home, known), name = informed, candidate.promotion.model
    publish(candidate, known)
    assert Classifier(settings, name, home).trust == ""
    with connected(settings) as client:
        forge(client, candidate, other_model_file)

    refused = rf"study '{STUDY}' of this database has not registered .* tuner promote best"
    with pytest.raises(ModelError, match=refused):
        Classifier(settings, name, home)
    assert len(list((home.root / "models").glob("*.keras"))) == 1, "nothing was fetched"
    rows = HeldOut(candidate.dataset, looks, 7, "promote")
    with pytest.raises(ModelError, match=refused):
        find_incumbent(settings, name, rows, home)

    again = publish(candidate, known)
    asked = Classifier(settings, name, home)
    assert (asked.version, asked.trust) == (again, "")


def test_the_champion_of_another_study_of_that_name_is_none_of_this_databases_business(
    informed: tuple[Home, Registrations],
    make_candidate: MakeCandidate,
    publish: Publish,
    settings: TrackingSettings,
) -> None:
    """The study was deleted and run again, or is one of a colleague's."""
    home, _ = informed
    other = make_candidate(study_uid="0b" * 16)
    publish(other)
    assert "the registry is trusted" in Classifier(settings, other.promotion.model, home).trust


def test_a_version_without_its_studys_uid_has_the_digest_that_it_was_registered_by() -> None:
    """An earlier version of tuner wrote it down."""
    known = "e05847b8df2e4ad20fcca159170f5617eab44ad000de21f2f0ab20b4215c6d41"
    assert digest("digits", {"tuner.study": "sweep", "tuner.trial": "3"}) == known


def test_asking_first_makes_a_home_for_its_owner_alone(tmp_path: Path) -> None:
    home = Home(tmp_path / "new")
    with pytest.raises(RefusedError, match="nothing promoted yet"):
        Classifier(TrackingSettings.from_environment(home.root, {}), "digits", home)
    assert home.root.stat().st_mode & 0o777 == 0o700


def test_where_the_study_is_not_known_it_is_said_that_the_registry_is_trusted(
    candidate: Candidate, publish: Publish, settings: TrackingSettings, tmp_path: Path
) -> None:
    publish(candidate)
    asked = Classifier(settings, candidate.promotion.model, Home(tmp_path / "stranger"))
    assert "the registry is trusted" in asked.trust
