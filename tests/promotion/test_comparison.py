"""Which champions can be held against a candidate, and which cannot."""

import importlib
from pathlib import Path

import numpy as np
import pytest

from tests.promotion.conftest import MakeCandidate, Promote, Publish, stored_file
from tuner.datasets.store import DatasetInfo
from tuner.errors import ModelError, RefusedError
from tuner.home import Home
from tuner.promotion.candidate import Candidate
from tuner.promotion.judging.comparison import Incumbent, find_incumbent
from tuner.promotion.judging.evidence import Answers, HeldOut
from tuner.promotion.registry.champion import Champion, load_champion
from tuner.spec.study_spec import StudySpec
from tuner.statistics import PairedShares
from tuner.storage.code_versions import CodeVersions
from tuner.storage.opening import open_database
from tuner.storage.studies import Catalog, Registrations
from tuner.storage.test_set_accesses import TestSetAccesses
from tuner.tracking.mlflow.connection import connected
from tuner.tracking.settings import TrackingSettings
from tuner.training.scores import evaluate_predictions


def answers(predicted: str, labels: str = "0011223344") -> Answers:
    """Those of a model that says `predicted`, one digit a row."""
    truth, said = (np.array([int(each) for each in text]) for text in (labels, predicted))
    classes = tuple("0123456789")
    return Answers(truth, said, evaluate_predictions(np.eye(10)[said], truth, classes))


@pytest.fixture
def champion(published: Candidate, settings: TrackingSettings, tmp_path: Path) -> Champion:
    return load_champion(settings, published.promotion.model, Home(tmp_path))


def test_two_models_are_compared_row_by_row(champion: Champion) -> None:
    theirs = answers("0011229340")

    found = Incumbent(champion, lambda: theirs).compare(answers("0111223349"))

    assert found.rows == PairedShares(both=7, first=1, second=1, neither=1)
    assert (found.test_accuracy, found.difference) == (0.8, 0.0)
    assert [
        (each.row, each.label, each.candidate, each.champion) for each in found.disagreements
    ] == [
        (1, "0", "1", "0"),
        (6, "3", "3", "9"),
        (9, "4", "9", "0"),
    ]
    assert [each.right for each in found.disagreements] == ["champion", "candidate", "neither"]
    changes = {each.label: (each.champion, each.candidate, each.images) for each in found.recalls}
    assert changes == {
        "0": (1.0, 0.5, 2), "1": (1.0, 1.0, 2), "2": (1.0, 1.0, 2), "3": (0.5, 1.0, 2),
        "4": (0.5, 0.5, 2),
    }  # fmt: skip


def test_a_recall_that_changed_by_more_than_chance_is_told_from_the_others(
    champion: Champion,
) -> None:
    labels = "0" * 60 + "1" * 60
    theirs = answers(labels, labels)
    ours = answers("0" * 60 + "1" * 48 + "7" * 12, labels)
    found = Incumbent(champion, lambda: theirs).compare(ours)
    assert [each.label for each in found.changed_recalls] == ["1"]
    slightly = answers("0" * 58 + "7" * 2 + "1" * 58 + "7" * 2, labels)
    assert Incumbent(champion, lambda: theirs).compare(slightly).changed_recalls == ()


def test_the_champion_answers_each_time_and_each_access_is_recorded(
    champion: Champion,
    settings: TrackingSettings,
    looks: TestSetAccesses,
    digits: DatasetInfo,
    tmp_path: Path,
) -> None:
    rows, none = (
        HeldOut(digits, looks, 7, "promote"),
        answers("0" * digits.test_count, "1" * digits.test_count),
    )

    incumbent = find_incumbent(settings, champion.model, rows, Home(tmp_path))
    assert looks.all() == []
    first = incumbent.compare(none)
    again = find_incumbent(settings, champion.model, rows, Home(tmp_path)).compare(none)

    assert first == again
    assert first.disagreements
    assert [(look.trial, look.model_sha256) for look in looks.all()] == [
        (7, champion.trial_sha256)
    ] * 2


@pytest.mark.slow
def test_a_champion_is_not_answered_for_by_code_that_another_network_brought(
    make_candidate: MakeCandidate,
    publish: Publish,
    settings: TrackingSettings,
    looks: TestSetAccesses,
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
        publish(candidate, Registrations(database, "theirs"))
    rows = HeldOut(candidate.dataset, looks, 7, "promote")
    with pytest.raises(ModelError, match="other code in the module 'shared_name'"):
        find_incumbent(settings, candidate.promotion.model, rows, home)

    later = candidate.model_copy(
        update={"number": candidate.number + 1, "run_id": make_candidate().run_id}
    )
    with open_database(home) as database:
        publish(later, Registrations(database, "theirs"))
    find_incumbent(settings, candidate.promotion.model, rows, home)


@pytest.fixture
def of_other_classes(
    make_candidate: MakeCandidate, publish: Publish, other_model_file: Path
) -> str:
    candidate = make_candidate(other_model_file, number=4)
    dataset = candidate.dataset.model_copy(update={"classes": tuple("abcdefghij")})
    publish(candidate.model_copy(update={"dataset": dataset}))
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
    publish: Publish,
    settings: TrackingSettings,
    other_model_file: Path,
    damaged: Path,
) -> str:
    candidate = make_candidate(other_model_file, number=4)
    publish(candidate)
    stored_file(settings, candidate).write_bytes(damaged.read_bytes())
    return "SHA-256 must be the recorded"


@pytest.fixture
def gone_since(
    make_candidate: MakeCandidate,
    publish: Publish,
    settings: TrackingSettings,
    other_model_file: Path,
) -> str:
    candidate = make_candidate(other_model_file, number=4)
    publish(candidate)
    stored_file(settings, candidate).unlink()
    return "MLflow: "


@pytest.fixture
def of_other_code_since(
    make_candidate: MakeCandidate, publish: Publish, other_model_file: Path
) -> str:
    candidate = make_candidate(other_model_file, number=4)
    publish(candidate, train_accuracy=0.25)
    return "on the training rows here, and had 0.2500 when it was promoted"


@pytest.mark.slow_variants
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
    run_promotion: Promote,
    looks: TestSetAccesses,
) -> None:
    why = request.getfixturevalue(champion)
    candidate = make_candidate()
    name = candidate.promotion.model.replace("[", r"\[").replace("]", r"\]")
    told = rf"{name}@champion is version 1, which cannot be compared: .*{why}.*--replace"
    with pytest.raises(RefusedError, match=told):
        run_promotion(candidate)
    assert looks.all() == []


@pytest.mark.slow
def test_a_damaged_champion_is_replaced_unseen_where_that_is_asked_for(
    damaged_since: str,
    make_candidate: MakeCandidate,
    run_promotion: Promote,
    looks: TestSetAccesses,
    said: list[str],
) -> None:
    candidate = make_candidate()
    report = run_promotion(candidate, replace=True)
    assert (report.promoted, report.version, report.champion) == (True, 2, None)
    assert [look.model_sha256 for look in looks.all()] == [candidate.model_sha256]
    assert any("which cannot be compared" in text and damaged_since in text for text in said)
