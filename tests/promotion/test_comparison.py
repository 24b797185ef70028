"""Which champions can be held against a candidate, and which cannot."""

import importlib
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.promotion.conftest import stored_file
from tuner.errors import ModelError, RefusedError
from tuner.home import Home
from tuner.promotion.candidate import Candidate
from tuner.promotion.judging.comparison import Incumbent, find_incumbent
from tuner.promotion.judging.evidence import HeldOut
from tuner.promotion.promote import promote
from tuner.promotion.registry.champion import load_champion
from tuner.spec.study_spec import StudySpec
from tuner.storage.code_versions import CodeVersions
from tuner.storage.opening import open_database
from tuner.storage.studies import Catalog, Registrations
from tuner.storage.test_set_accesses import TestSetAccesses
from tuner.tracking.mlflow.connection import connected
from tuner.tracking.settings import TrackingSettings

MakeCandidate = Callable[..., Candidate]
Publish = Callable[..., int]


@pytest.mark.parametrize(
    ("own", "passed"),
    [(0.995, True), (0.99, True), (0.988, True), (0.9879, False), (float("nan"), False)],
)
def test_two_tenths_of_a_point_may_be_missing(
    own: float,
    passed: bool,
    make_candidate: MakeCandidate,
    publish_candidate: Publish,
    settings: TrackingSettings,
    model_file: Path,
    tmp_path: Path,
) -> None:
    candidate = make_candidate()
    publish_candidate(candidate, model_file)
    champion = load_champion(settings, candidate.promotion.model, Home(tmp_path))
    assert Incumbent(champion, lambda: 0.99).compare(own).passed is passed


def test_what_an_earlier_look_told_is_not_looked_for_again(
    make_candidate: MakeCandidate,
    publish_candidate: Publish,
    settings: TrackingSettings,
    looks: TestSetAccesses,
    model_file: Path,
    tmp_path: Path,
) -> None:
    candidate, home = make_candidate(), Home(tmp_path)
    publish_candidate(candidate, model_file)
    rows = HeldOut(candidate.dataset, looks, 7, "promote")
    untold = looks.begin(1, "promote", candidate.dataset.digest, candidate.model_sha256)
    looks.complete(looks.begin(1, "promote", "d2" * 32, candidate.model_sha256), {"x": 1})

    first = find_incumbent(settings, candidate.promotion.model, rows, home).compare(0.5)
    again = find_incumbent(settings, candidate.promotion.model, rows, home).compare(0.5)

    assert first == again
    assert first.test_accuracy > 0.8
    (measured,) = looks.all()[2:]
    assert (measured.trial, measured.dataset) == (7, candidate.dataset.digest)
    assert looks.all()[0].evidence is None
    assert untold


def test_a_champion_is_not_answered_for_by_code_that_another_network_brought(
    make_candidate: MakeCandidate,
    publish_candidate: Publish,
    settings: TrackingSettings,
    looks: TestSetAccesses,
    model_file: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ours, theirs = "def build(input_shape, classes): ...", "def build(classes, input_shape): ..."
    (tmp_path / "shared_name.py").write_text(ours)
    monkeypatch.syspath_prepend(tmp_path)
    importlib.import_module("shared_name")
    candidate, home = make_candidate(), Home(tmp_path)
    spec = StudySpec.model_validate(
        {
            "name": "theirs",
            "dataset": "digits",
            "model": "shared_name:build",
            "epochs": 1,
            "validation": 300,
        }
    )
    with open_database(home) as database:
        record = Catalog(database).create(spec, "study.yaml", (), candidate.dataset)
        its = {"study": "theirs", "study_uid": record.uid}
        candidate = candidate.model_copy(update=its)
        code = CodeVersions(database, "theirs")
        code.update({"shared_name.py": theirs}, trials=0, accepts=False)
        code.update({"shared_name.py": ours}, trials=candidate.number + 1, accepts=True)
        publish_candidate(candidate, model_file, Registrations(database, "theirs"))
    rows = HeldOut(candidate.dataset, looks, 7, "promote")
    with pytest.raises(ModelError, match="other code in the module 'shared_name'"):
        find_incumbent(settings, candidate.promotion.model, rows, home)

    later = candidate.model_copy(
        update={"number": candidate.number + 1, "run_id": make_candidate().run_id}
    )
    with open_database(home) as database:
        publish_candidate(later, model_file, Registrations(database, "theirs"))
    find_incumbent(settings, candidate.promotion.model, rows, home)


@pytest.fixture
def of_other_classes(
    make_candidate: MakeCandidate, publish_candidate: Publish, other_model_file: Path
) -> str:
    candidate = make_candidate(other_model_file, number=4)
    dataset = candidate.dataset.model_copy(update={"classes": tuple("abcdefghij")})
    publish_candidate(candidate.model_copy(update={"dataset": dataset}), other_model_file)
    return r"it is for the classes \('a', .*, the data set digits has \('0', "


@pytest.fixture
def of_nobody_knows_whom(
    make_candidate: MakeCandidate, settings: TrackingSettings, other_model_file: Path
) -> str:
    candidate = make_candidate(other_model_file, number=4)
    name = candidate.promotion.model
    with connected(settings) as client:
        client.create_registered_model(name)
        client.create_model_version(name, f"runs:/{candidate.run_id}/model", candidate.run_id)
        client.set_registered_model_alias(name, "champion", "1")
    return "was not registered by `tuner promote`"


@pytest.fixture
def damaged_since(
    make_candidate: MakeCandidate,
    publish_candidate: Publish,
    settings: TrackingSettings,
    other_model_file: Path,
    damaged: Path,
) -> str:
    candidate = make_candidate(other_model_file, number=4)
    publish_candidate(candidate, other_model_file)
    stored_file(settings, candidate).write_bytes(damaged.read_bytes())
    return "SHA-256 must be the recorded"


@pytest.fixture
def gone_since(
    make_candidate: MakeCandidate,
    publish_candidate: Publish,
    settings: TrackingSettings,
    other_model_file: Path,
) -> str:
    candidate = make_candidate(other_model_file, number=4)
    publish_candidate(candidate, other_model_file)
    stored_file(settings, candidate).unlink()
    return "MLflow: "


@pytest.fixture
def of_other_code_since(
    make_candidate: MakeCandidate, publish_candidate: Publish, other_model_file: Path
) -> str:
    candidate = make_candidate(other_model_file, number=4)
    publish_candidate(candidate, other_model_file, train_accuracy=0.25)
    return "on the training rows here, and had 0.2500 when it was promoted"


@pytest.mark.parametrize(
    "champion",
    [
        "of_other_classes",
        "of_nobody_knows_whom",
        "damaged_since",
        "gone_since",
        "of_other_code_since",
    ],
)
def test_a_champion_that_cannot_be_compared_stays_before_the_test_set_is_opened(
    champion: str,
    request: pytest.FixtureRequest,
    make_candidate: MakeCandidate,
    settings: TrackingSettings,
    looks: TestSetAccesses,
    registrations: Registrations,
    tmp_path: Path,
) -> None:
    why = request.getfixturevalue(champion)
    candidate = make_candidate()
    name = candidate.promotion.model.replace("[", r"\[").replace("]", r"\]")
    told = rf"{name}@champion is version 1, which cannot be compared: .*{why}.*--replace"
    with pytest.raises(RefusedError, match=told):
        promote(candidate, settings, Home(tmp_path), looks, registrations, say=lambda _: None)
    assert looks.all() == []


@pytest.mark.slow
def test_a_damaged_champion_is_replaced_unseen_where_that_is_asked_for(
    damaged_since: str,
    make_candidate: MakeCandidate,
    settings: TrackingSettings,
    looks: TestSetAccesses,
    registrations: Registrations,
    tmp_path: Path,
) -> None:
    candidate, said = make_candidate(), list[str]()
    report = promote(
        candidate, settings, Home(tmp_path), looks, registrations, replace=True, say=said.append
    )
    assert (report.promoted, report.version, report.champion) == (True, 2, None)
    assert [look.model_sha256 for look in looks.all()] == [candidate.model_sha256]
    assert any("replaced unseen" in text and damaged_since in text for text in said)
