import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from tuner.datasets.store import DatasetInfo
from tuner.errors import ModelError, RefusedError
from tuner.promotion.candidate import Candidate
from tuner.promotion.champion import load_champion
from tuner.promotion.connection import connected
from tuner.promotion.model_file import load_verified
from tuner.promotion.predictor import Predictor
from tuner.promotion.promote import PromotionReport, evaluate_test, promote
from tuner.promotion.registry import find_version
from tuner.tracking.settings import TrackingSettings

pytestmark = [
    # Keras reads TensorFlow's variables in a way that NumPy 2 deprecates.
    pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning"),
    # MLflow's model registry reads its tables in a way that SQLAlchemy 2.1 deprecates.
    pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy"),
]

MakeCandidate = Callable[..., Candidate]
Promote = Callable[..., PromotionReport]


@pytest.fixture
def run_promotion(settings: TrackingSettings, tmp_path: Path) -> Promote:
    def run(candidate: Candidate, **options: object) -> PromotionReport:
        stated: dict[str, object] = {"before_look": lambda: None, "say": lambda _: None}
        return promote(candidate, settings, tmp_path, **{**stated, **options})  # type: ignore[arg-type]

    return run


def registered_versions(settings: TrackingSettings, name: str) -> dict[int, list[str]]:
    with connected(settings) as client:
        versions = client.search_model_versions(f"name = '{name}'")
        return {
            int(version.version): list(client.get_model_version(name, version.version).aliases)
            for version in versions
        }


def test_a_passing_candidate_becomes_the_champion(
    make_candidate: MakeCandidate,
    run_promotion: Promote,
    settings: TrackingSettings,
    digits: DatasetInfo,
    tmp_path: Path,
) -> None:
    candidate = make_candidate(
        gates={"test_accuracy": 0.8, "train_test_gap": 0.2, "latency_p95_ms": 5000}
    )
    with connected(settings) as client:
        before = client.get_run(candidate.run_id)
    looks: list[int] = []

    report = run_promotion(candidate, before_look=lambda: looks.append(1))

    assert (report.promoted, report.version, report.alias) == (True, 1, "champion")
    assert [gate.name for gate in report.gates] == [
        "test_accuracy",
        "train_test_gap",
        "latency_p95_ms",
    ]
    assert looks == [1]
    assert report.evidence.latency.calls == 1000
    with connected(settings) as client:
        run = client.get_run(candidate.run_id)
        version = client.get_model_version_by_alias(candidate.promotion.model, "champion")
        logged = client.get_logged_model(version.model_id)
        history = {
            name: len(client.get_metric_history(candidate.run_id, name))
            for name in run.data.metrics
        }
        evidence = client.download_artifacts(
            candidate.run_id, "promotion/evidence.json", str(tmp_path)
        )
        artifacts = {item.path for item in client.list_artifacts(candidate.run_id, "promotion")}
    assert (run.info.status, run.info.end_time) == (before.info.status, before.info.end_time)
    assert set(history.values()) == {1}
    assert run.data.metrics["test_accuracy"] == report.metrics["test_accuracy"]
    assert run.data.metrics["val_accuracy"] == 0.9
    assert artifacts == {"promotion/evidence.json", "promotion/confusion_matrix.png"}
    assert json.loads(Path(evidence).read_text())["metrics"] == report.metrics
    assert version.status == "READY"
    assert version.run_id == candidate.run_id
    assert version.tags["tuner.run_id"] == candidate.run_id
    assert version.tags["tuner.dataset.digest"] == digits.digest
    assert (logged.source_run_id, logged.experiment_id) == (
        candidate.run_id,
        run.info.experiment_id,
    )


def test_the_registered_package_has_signature_example_and_pinned_requirements(
    make_candidate: MakeCandidate,
    run_promotion: Promote,
    settings: TrackingSettings,
    test_images: NDArray[np.uint8],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    candidate = make_candidate()
    run_promotion(candidate)
    with connected(settings):
        import mlflow

        folder = Path(
            mlflow.artifacts.download_artifacts(
                f"models:/{candidate.promotion.model}/1", dst_path=str(tmp_path / "package")
            )
        )
        signature = mlflow.models.get_model_info(str(folder)).signature
        monkeypatch.setenv("MLFLOW_ALLOW_PICKLE_DESERIALIZATION", "true")
        answers = mlflow.pyfunc.load_model(str(folder)).predict(test_images[:2] / np.float32(255))
    assert answers.shape == (2, 10)
    assert signature.inputs.inputs[0].shape == (-1, 8, 8, 1)
    assert signature.outputs.inputs[0].shape == (-1, 10)
    assert (folder / "input_example.json").exists()
    requirements = (folder / "requirements.txt").read_text().split()
    assert all("==" in requirement for requirement in requirements)
    assert {"keras", "tensorflow", "numpy"} <= {line.partition("==")[0] for line in requirements}


def test_the_champion_answers_like_the_trials_model(
    make_candidate: MakeCandidate,
    run_promotion: Promote,
    settings: TrackingSettings,
    model_file: Path,
    test_images: NDArray[np.uint8],
    tmp_path: Path,
) -> None:
    candidate = make_candidate()
    run_promotion(candidate)
    champion = load_champion(settings, candidate.promotion.model, tmp_path / "cache")
    assert champion.model_path.read_bytes() == model_file.read_bytes()
    assert (champion.study, champion.trial, champion.run_id) == (
        candidate.study,
        candidate.number,
        candidate.run_id,
    )
    assert champion.classes == candidate.dataset.classes
    assert champion.image_shape == (8, 8, 1)
    fetched = Predictor(load_verified(champion.model_path, champion.sha256))
    original = Predictor(load_verified(model_file, candidate.model_sha256))
    np.testing.assert_array_equal(
        fetched.probabilities(test_images), original.probabilities(test_images)
    )


@pytest.mark.parametrize(
    ("gates", "options"),
    [
        ({"test_accuracy": 1.0}, {}),
        ({"test_accuracy": 0.5, "train_time_s": 0.1}, {}),
        ({"test_accuracy": 0.5}, {"dry_run": True}),
    ],
    ids=["accuracy", "time", "dry-run"],
)
def test_a_failed_gate_or_a_dry_run_changes_nothing(
    gates: dict[str, float],
    options: dict[str, bool],
    make_candidate: MakeCandidate,
    run_promotion: Promote,
    settings: TrackingSettings,
    tmp_path: Path,
) -> None:
    candidate = make_candidate(gates=gates)
    with connected(settings) as client:
        before = client.get_run(candidate.run_id).to_dictionary()
    report = run_promotion(candidate, **options)
    assert (report.promoted, report.version, report.alias) == (False, None, None)
    assert report.passed == bool(options)
    with connected(settings) as client:
        assert client.get_run(candidate.run_id).to_dictionary() == before
        names = [model.name for model in client.search_registered_models()]
    assert candidate.promotion.model not in names
    with pytest.raises(RefusedError, match="nothing promoted yet: run `tuner promote best`"):
        load_champion(settings, candidate.promotion.model, tmp_path / "cache")


def test_a_second_promotion_moves_the_alias_and_keeps_the_old_version(
    make_candidate: MakeCandidate,
    run_promotion: Promote,
    settings: TrackingSettings,
    other_model_file: Path,
    tmp_path: Path,
) -> None:
    first, second = make_candidate(), make_candidate(other_model_file, number=4)
    run_promotion(first)
    report = run_promotion(second)
    assert report.version == 2
    assert registered_versions(settings, report.model) == {1: [], 2: ["champion"]}
    champion = load_champion(settings, report.model, tmp_path / "cache")
    assert (champion.version, champion.trial) == (2, 4)


def test_promoting_again_after_a_crash_finishes_the_version_that_is_there(
    make_candidate: MakeCandidate, run_promotion: Promote, settings: TrackingSettings
) -> None:
    candidate = make_candidate()
    run_promotion(candidate)
    with connected(settings) as client:  # as if killed between version and alias
        client.delete_registered_model_alias(candidate.promotion.model, "champion")
    assert run_promotion(candidate).version == 1
    assert registered_versions(settings, candidate.promotion.model) == {1: ["champion"]}


def test_another_trial_that_became_champion_meanwhile_stays_champion(
    make_candidate: MakeCandidate,
    run_promotion: Promote,
    settings: TrackingSettings,
    other_model_file: Path,
) -> None:
    slow, fast = make_candidate(), make_candidate(other_model_file, number=4)
    with pytest.raises(RefusedError, match="another promotion made version 1 the champion"):
        run_promotion(slow, before_look=lambda: run_promotion(fast))
    assert registered_versions(settings, slow.promotion.model) == {1: ["champion"]}


def test_a_version_whose_file_was_changed_in_the_registry_never_gets_the_alias(
    make_candidate: MakeCandidate,
    run_promotion: Promote,
    settings: TrackingSettings,
    damaged: Path,
    tmp_path: Path,
) -> None:
    candidate = make_candidate()
    name = candidate.promotion.model
    run_promotion(candidate)
    with connected(settings) as client:
        version = find_version(client, candidate)
        assert version is not None
        location = client.get_logged_model(version.model_id).artifact_location
        stored = Path(location.removeprefix("file://")) / "data" / "model.keras"
        stored.write_bytes(damaged.read_bytes())
        client.delete_registered_model_alias(name, "champion")
    with pytest.raises(ModelError, match="SHA-256 must be the recorded"):
        run_promotion(candidate)
    assert registered_versions(settings, name) == {}
    assert run_promotion(candidate).version == 2
    champion = load_champion(settings, name, tmp_path / "cache")
    assert champion.version == 2


def test_a_champion_whose_file_was_changed_is_refused(
    make_candidate: MakeCandidate,
    run_promotion: Promote,
    settings: TrackingSettings,
    damaged: Path,
    tmp_path: Path,
) -> None:
    candidate = make_candidate()
    run_promotion(candidate)
    with connected(settings) as client:
        version = client.get_model_version_by_alias(candidate.promotion.model, "champion")
        location = client.get_logged_model(version.model_id).artifact_location
    stored = Path(location.removeprefix("file://")) / "data" / "model.keras"
    stored.write_bytes(damaged.read_bytes())
    cache = tmp_path / "cache"
    with pytest.raises(ModelError, match=f"models:/{candidate.promotion.model}/1: SHA-256"):
        load_champion(settings, candidate.promotion.model, cache)
    assert [path.name for path in cache.iterdir()] == [".lock"]


def test_a_version_that_tuner_did_not_register_is_refused(
    make_candidate: MakeCandidate, settings: TrackingSettings, tmp_path: Path
) -> None:
    candidate = make_candidate()
    with connected(settings) as client:
        client.create_registered_model("foreign")
        client.create_model_version("foreign", f"runs:/{candidate.run_id}/model", candidate.run_id)
        client.set_registered_model_alias("foreign", "champion", "1")
    with pytest.raises(ModelError, match=r"models:/foreign/1: was not registered by"):
        load_champion(settings, "foreign", tmp_path)


def test_a_damaged_artifact_is_refused_before_the_test_set_is_opened(
    make_candidate: MakeCandidate,
    run_promotion: Promote,
    model_file: Path,
    damaged: Path,
) -> None:
    recorded = make_candidate(model_file)
    candidate = make_candidate(damaged).model_copy(update={"model_sha256": recorded.model_sha256})
    looks: list[int] = []
    with pytest.raises(ModelError, match=f"run {candidate.run_id}: model/model.keras: SHA-256"):
        run_promotion(candidate, before_look=lambda: looks.append(1))
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
    tmp_path: Path,
) -> None:
    from sklearn.metrics import accuracy_score, f1_score

    candidate = make_candidate()
    looks: list[int] = []
    evaluation = evaluate_test(candidate, settings, tmp_path, lambda: looks.append(1))
    labels = np.load(digits.test / "labels.npy")
    model = load_verified(model_file, candidate.model_sha256)
    predicted = model.predict(test_images / np.float32(255), verbose=0).argmax(axis=1)
    assert looks == [1]
    assert evaluation.accuracy == pytest.approx(accuracy_score(labels, predicted))
    assert evaluation.macro.f1 == pytest.approx(f1_score(labels, predicted, average="macro"))
    assert np.sum(evaluation.confusion) == digits.test_count


def test_the_json_of_a_report_has_the_documented_keys(
    make_candidate: MakeCandidate, run_promotion: Promote
) -> None:
    report = run_promotion(make_candidate(), dry_run=True)
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
