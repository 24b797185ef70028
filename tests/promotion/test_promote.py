"""The whole way: from a trial's run to a champion, or to a refusal that changes nothing."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from tuner.datasets.store import DatasetInfo
from tuner.errors import ModelError, RefusedError
from tuner.models.model_file import load_verified
from tuner.promotion.candidate import Candidate
from tuner.promotion.champion import load_champion
from tuner.promotion.promote import PromotionReport, evaluate_test, promote
from tuner.tracking.connection import connected
from tuner.tracking.settings import TrackingSettings

pytestmark = [
    # Keras reads TensorFlow's variables in a way that NumPy 2 deprecates.
    pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning"),
    # MLflow's model registry reads its tables in a way that SQLAlchemy 2.1 deprecates.
    pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy:DeprecationWarning"),
]

MakeCandidate = Callable[..., Candidate]
Promote = Callable[..., PromotionReport]


@pytest.fixture
def looks() -> list[str]:
    """Grows with every look at the test set."""
    return []


@pytest.fixture
def run_promotion(settings: TrackingSettings, tmp_path: Path, looks: list[str]) -> Promote:
    def run(candidate: Candidate, *, dry_run: bool = False) -> PromotionReport:
        return promote(
            candidate,
            settings,
            tmp_path,
            dry_run=dry_run,
            before_look=lambda: looks.append("look"),
            say=lambda _: None,
        )

    return run


def test_a_passing_candidate_becomes_the_champion(
    make_candidate: MakeCandidate,
    run_promotion: Promote,
    looks: list[str],
    settings: TrackingSettings,
    tmp_path: Path,
) -> None:
    gates = {"test_accuracy": 0.8, "train_test_gap": 0.2, "latency_p95_ms": 5000}
    candidate = make_candidate(gates=gates)
    with connected(settings) as client:
        before = client.get_run(candidate.run_id).info

    report = run_promotion(candidate)

    assert (report.promoted, report.version, report.alias) == (True, 1, "champion")
    assert [gate.name for gate in report.gates] == list(gates)
    assert looks == ["look"]
    assert report.evidence.latency.calls == 1000
    with connected(settings) as client:
        run = client.get_run(candidate.run_id)
        points = {
            name: len(client.get_metric_history(candidate.run_id, name))
            for name in run.data.metrics
        }
        artifacts = {item.path for item in client.list_artifacts(candidate.run_id, "promotion")}
        evidence = client.download_artifacts(
            candidate.run_id, "promotion/evidence.json", str(tmp_path)
        )
    assert (run.info.status, run.info.end_time) == (before.status, before.end_time)
    assert run.data.metrics == {**report.metrics, "val_accuracy": 0.9}
    assert set(points.values()) == {1}
    assert artifacts == {"promotion/evidence.json", "promotion/confusion_matrix.png"}
    assert json.loads(Path(evidence).read_text())["metrics"] == report.metrics
    assert load_champion(settings, report.model, tmp_path / "cache").run_id == candidate.run_id


def test_a_failed_gate_changes_nothing(
    make_candidate: MakeCandidate,
    run_promotion: Promote,
    settings: TrackingSettings,
    tmp_path: Path,
) -> None:
    candidate = make_candidate(gates={"test_accuracy": 0.5, "train_time_s": 1.0})
    with connected(settings) as client:
        before = client.get_run(candidate.run_id).to_dictionary()
    report = run_promotion(candidate)
    assert (report.promoted, report.passed, report.version, report.alias) == (
        False,
        False,
        None,
        None,
    )
    assert [(gate.name, gate.passed) for gate in report.gates] == [
        ("test_accuracy", True),
        ("train_time_s", False),
    ]
    with connected(settings) as client:
        assert client.get_run(candidate.run_id).to_dictionary() == before
        names = [model.name for model in client.search_registered_models()]
    assert candidate.promotion.model not in names
    with pytest.raises(RefusedError, match="nothing promoted yet: run `tuner promote best`"):
        load_champion(settings, candidate.promotion.model, tmp_path / "cache")


def test_a_dry_run_reports_as_documented_and_changes_nothing(
    make_candidate: MakeCandidate,
    run_promotion: Promote,
    looks: list[str],
    settings: TrackingSettings,
) -> None:
    candidate = make_candidate()
    with connected(settings) as client:
        before = client.get_run(candidate.run_id).to_dictionary()
    report = run_promotion(candidate, dry_run=True)
    assert (report.promoted, report.passed, looks) == (False, True, ["look"])
    with connected(settings) as client:
        assert client.get_run(candidate.run_id).to_dictionary() == before
        names = [model.name for model in client.search_registered_models()]
    assert candidate.promotion.model not in names
    document = json.loads(report.model_dump_json())
    assert list(document) == [
        "promoted",
        "model",
        "version",
        "alias",
        "run_id",
        "metrics",
        "gates",
    ]
    assert set(document["gates"][0]) == {"name", "passed", "value", "limit"}
    assert {
        "test_accuracy",
        "test_precision",
        "test_recall",
        "test_f1",
        "train_accuracy",
        "train_test_gap",
        "latency_p95_ms",
        "train_time_s",
    } <= set(document["metrics"])


def test_a_damaged_artifact_is_refused_before_the_test_set_is_opened(
    make_candidate: MakeCandidate,
    run_promotion: Promote,
    looks: list[str],
    model_file: Path,
    damaged: Path,
) -> None:
    recorded = make_candidate(model_file).model_sha256
    candidate = make_candidate(damaged).model_copy(update={"model_sha256": recorded})
    with pytest.raises(ModelError, match=f"run {candidate.run_id}: model/model.keras: SHA-256"):
        run_promotion(candidate)
    assert looks == []


def test_a_run_that_keeps_no_model_is_refused(
    make_candidate: MakeCandidate, run_promotion: Promote, settings: TrackingSettings
) -> None:
    candidate = make_candidate()
    with connected(settings) as client:
        experiment_id = client.get_run(candidate.run_id).info.experiment_id
        run_id = client.create_run(experiment_id).info.run_id
    with pytest.raises(ModelError, match="keeps no model"):
        run_promotion(candidate.model_copy(update={"run_id": run_id}))


def test_a_model_for_other_images_is_refused(
    make_candidate: MakeCandidate, run_promotion: Promote, digits: DatasetInfo
) -> None:
    wider = digits.model_copy(update={"image_shape": (28, 28, 1)})
    candidate = make_candidate().model_copy(update={"dataset": wider})
    with pytest.raises(ModelError, match=r"takes \(None, 28, 28, 1\), got \(None, 8, 8, 1\)"):
        run_promotion(candidate)


def test_evaluating_looks_once_and_agrees_with_scikit_learn(
    make_candidate: MakeCandidate,
    settings: TrackingSettings,
    digits: DatasetInfo,
    model_file: Path,
    test_images: NDArray[np.uint8],
    looks: list[str],
    tmp_path: Path,
) -> None:
    from sklearn.metrics import accuracy_score, f1_score

    candidate = make_candidate()
    evaluation = evaluate_test(candidate, settings, tmp_path, lambda: looks.append("look"))
    labels = np.load(digits.test / "labels.npy")
    model = load_verified(model_file, candidate.model_sha256)
    predicted = model.predict(test_images / np.float32(255), verbose=0).argmax(axis=1)
    assert looks == ["look"]
    assert evaluation.accuracy == pytest.approx(accuracy_score(labels, predicted))
    assert evaluation.macro.f1 == pytest.approx(f1_score(labels, predicted, average="macro"))
    assert np.sum(evaluation.confusion) == digits.test_count
