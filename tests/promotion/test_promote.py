"""The whole way: from a trial's run to a champion, or to a refusal that changes nothing."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.promotion.conftest import MakeCandidate, Promote, Publish
from tuner.datasets.store import DatasetInfo
from tuner.errors import ModelError, RefusedError, UnavailableError
from tuner.home import Home
from tuner.promotion.judging.kept_model import fetch_kept
from tuner.promotion.registry.champion import load_champion
from tuner.storage.test_set_accesses import TestSetAccesses
from tuner.tracking.mlflow.connection import connected
from tuner.tracking.settings import TrackingSettings


def registered(settings: TrackingSettings) -> list[str]:
    """The names of all registered models."""
    with connected(settings) as client:
        return [model.name for model in client.search_registered_models()]


def lead_to_a_study(client: Any, run_id: str) -> str:
    """Puts the run below a refit's, that one below a study's, whose id is returned.

    A person has put the study's below a run of their own.
    """
    experiment_id = client.get_run(run_id).info.experiment_id
    theirs, study, refit = (client.create_run(experiment_id).info.run_id for _ in range(3))
    for run, role in ((study, "study"), (refit, "refit")):
        client.set_tag(run, "tuner.kind", "study")
        client.set_tag(run, "tuner.role", role)
    for below, above in ((study, theirs), (refit, study), (run_id, refit)):
        client.set_tag(below, "mlflow.parentRunId", above)
    return str(study)


def note(settings: TrackingSettings, run_id: str) -> str:
    """What MLflow shows as the description of the run."""
    with connected(settings) as client:
        return str(client.get_run(run_id).data.tags.get("mlflow.note.content", ""))


def test_a_passing_candidate_becomes_the_champion(
    make_candidate: MakeCandidate,
    run_promotion: Promote,
    looks: TestSetAccesses,
    settings: TrackingSettings,
    tmp_path: Path,
) -> None:
    gates = {
        "test_accuracy": 0.8,
        "worst_recall": 0.1,
        "train_test_gap": 0.2,
        "latency_p95_ms": 5000,
        "model_mb": 1,
        "parameters": 64 * 32 + 32 + 32 * 10 + 10,
    }
    candidate = make_candidate(gates=gates)
    with connected(settings) as client:
        before = client.get_run(candidate.run_id).info
        client.log_metric(candidate.run_id, "test_f1", 0.5, timestamp=2000)  # told otherwise once
        study = lead_to_a_study(client, candidate.run_id)

    report = run_promotion(candidate)

    assert (report.promoted, report.version, report.alias) == (True, 1, "champion")
    assert not report.reigning
    assert [gate.name for gate in report.gates] == list(gates)
    assert report.champion is None
    (look,) = looks.all()
    assert (look.trial, look.command) == (candidate.number, "promote")
    use = report.test_set_use
    assert use is not None
    assert (use.dataset, use.access, use.models, use.optimism) == ("digits", 1, 1, 0)
    assert (look.dataset, look.model_sha256) == (candidate.dataset.digest, candidate.model_sha256)
    assert look.evidence is not None
    assert look.evidence["test_accuracy"] == report.metrics["test_accuracy"]
    assert report.evidence is not None
    assert report.evidence.latency.calls == 1000
    with connected(settings) as client:
        run = client.get_run(candidate.run_id)
        points = {
            name: len(client.get_metric_history(candidate.run_id, name))
            for name in run.data.metrics
        }
        artifacts = {item.path for item in client.list_artifacts(candidate.run_id, "promotion")}
        kept = {item.path for item in client.list_artifacts(candidate.run_id)}
        evidence = client.download_artifacts(
            candidate.run_id, "promotion/evidence.json", str(tmp_path)
        )
    assert (run.info.status, run.info.end_time) == (before.status, before.end_time)
    assert run.data.metrics == {**report.metrics, "val_accuracy": 0.9}
    assert points.pop("test_f1") == 2
    assert set(points.values()) == {1}
    names = ("evidence.json", "confusion_matrix.png", "card.md", "card.html")
    assert artifacts == {f"promotion/{name}" for name in names}
    assert kept == {"model", "promotion"}
    document = json.loads(Path(evidence).read_text())
    assert document["metrics"] == report.metrics
    assert document["test_set_use"] == use.model_dump()
    assert load_champion(settings, report.model, Home(tmp_path)).run_id == candidate.run_id
    told = "**Promoted:** trial 3 of digits-study, as version 1 of the registered model"
    assert f"{told} {report.model}, which became its champion" in note(settings, study)
    with connected(settings) as client:
        about = client.get_registered_model(report.model).description
        assert about.startswith("Classifies images of 8 x 8 pixels into the 10 classes of digits.")
        client.update_registered_model(report.model, "ours")
        client.update_model_version(report.model, 1, "ours too")
        client.set_tag(study, "mlflow.note.content", "typed by hand")

    again = run_promotion(candidate)
    assert note(settings, study) == "typed by hand"
    with connected(settings) as client:
        assert client.get_registered_model(report.model).description == "ours"
        assert client.get_model_version(report.model, 1).description == "ours too"
    assert (again.promoted, again.version, again.reigning) == (True, 1, True)
    assert again.test_set_use == use.model_copy(update={"access": 2})


@pytest.mark.slow
def test_a_gate_that_needs_no_test_row_fails_before_the_test_set_is_opened(
    make_candidate: MakeCandidate,
    run_promotion: Promote,
    looks: TestSetAccesses,
    said: list[str],
    settings: TrackingSettings,
) -> None:
    candidate = make_candidate(gates={"test_accuracy": 0.5, "train_time_s": 1.0})
    candidate = candidate.model_copy(update={"validated": None})
    with connected(settings) as client:
        before = client.get_run(candidate.run_id).to_dictionary()
    report = run_promotion(candidate)
    assert (report.promoted, report.passed) == (False, False)
    assert (report.version, report.alias) == (None, None)
    assert [(gate.name, gate.passed) for gate in report.gates] == [("train_time_s", False)]
    assert looks.all() == []
    assert "test_accuracy" not in report.metrics
    assert report.validation is None
    assert any(
        "not checked" in text and "no training with validation images" in text for text in said
    )
    with connected(settings) as client:
        assert client.get_run(candidate.run_id).to_dictionary() == before
    assert candidate.promotion.model not in registered(settings)


@pytest.mark.slow
def test_a_worse_candidate_replaces_the_champion_only_where_that_is_asked_for(
    make_candidate: MakeCandidate,
    publish: Publish,
    run_promotion: Promote,
    looks: TestSetAccesses,
    settings: TrackingSettings,
    worse_model_file: Path,
    tmp_path: Path,
) -> None:
    champion = make_candidate()
    worse = make_candidate(worse_model_file, number=4, gates={"test_accuracy": 0.01})
    publish(champion)
    looks_at_first = len(looks.all())
    with connected(settings) as client:
        before = client.get_run(worse.run_id).to_dictionary()

    report = run_promotion(worse, dry_run=True)

    assert (report.promoted, report.passed) == (False, False)
    assert report.champion is not None
    assert (report.champion.version, report.champion.trial) == (1, champion.number)
    own, its = report.metrics["test_accuracy"], report.champion.test_accuracy
    assert own < 0.5 < 0.8 < its
    assert report.champion.difference == pytest.approx(own - its)
    taken = [(look.model_sha256, look.command) for look in looks.all()[looks_at_first:]]
    assert taken == [
        (worse.model_sha256, "promote --dry-run"),
        (champion.model_sha256, "promote: champion"),
    ]
    assert report.test_set_use is not None
    assert (report.test_set_use.access, report.test_set_use.models) == (1, 1)
    with connected(settings) as client:
        assert client.get_run(worse.run_id).to_dictionary() == before
    document = json.loads(report.model_dump_json())
    assert list(document) == [
        "promoted", "model", "version", "alias", "run_id", "grounds", "metrics", "gates",
        "champion", "reigning", "replace", "challenger", "validation", "test_set_use",
    ]  # fmt: skip
    assert set(document["gates"][0]) == {"name", "passed", "value", "limit"}
    failed = {gate["name"] for gate in document["gates"] if not gate["passed"]}
    assert failed == {"champion_margin"}
    assert document["metrics"]["champion_difference_high"] < 0
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

    report = run_promotion(worse, replace=True)

    assert (report.promoted, report.version) == (True, 2)
    assert report.champion is not None
    assert report.champion.test_accuracy == its
    assert [gate.passed for gate in report.gates] == [True, False]
    again = [look.model_sha256 for look in looks.all()[looks_at_first + len(taken) :]]
    assert again == [sha256 for sha256, _ in taken]
    assert report.test_set_use is not None
    assert (report.test_set_use.access, report.test_set_use.models) == (3, 2)
    error = report.metrics["test_accuracy_standard_error"]
    assert report.test_set_use.optimism == pytest.approx(0.5642 * error, rel=0.01)
    with connected(settings) as client:
        artifacts = {item.path for item in client.list_artifacts(worse.run_id, "promotion")}
        evidence = client.download_artifacts(worse.run_id, "promotion/evidence.json", str(tmp_path))
        tags = client.get_model_version(report.model, "2").tags
    assert "promotion/disagreements.png" in artifacts
    assert tags["tuner.champion_difference"] == repr(report.champion.difference)
    compared = json.loads(Path(evidence).read_text())["champion"]
    assert len(compared["disagreements"]) == len(report.champion.disagreements) > 0


def test_a_file_of_another_network_is_refused_before_the_test_set_is_opened(
    make_candidate: MakeCandidate,
    run_promotion: Promote,
    looks: TestSetAccesses,
    settings: TrackingSettings,
    unscaled_model_file: Path,
    model_file: Path,
) -> None:
    candidate = make_candidate(unscaled_model_file, recorded=model_file)
    with pytest.raises(ModelError, match=r"another network .* on the 300 validation rows it has"):
        run_promotion(candidate)
    assert looks.all() == []
    assert candidate.promotion.model not in registered(settings)


@pytest.mark.slow
def test_a_refit_is_refused_whose_network_does_not_reproduce_the_training_before_it(
    make_candidate: MakeCandidate,
    run_promotion: Promote,
    looks: TestSetAccesses,
    unscaled_model_file: Path,
    model_file: Path,
) -> None:
    refit = make_candidate().model_copy(update={"validated": None})
    twin = make_candidate(unscaled_model_file, recorded=model_file)
    with pytest.raises(ModelError, match=r"another network .* on the 300 validation rows it has"):
        run_promotion(refit, twin=twin)
    assert looks.all() == []
    report = run_promotion(refit, twin=make_candidate(), dry_run=True)
    assert report.validation is not None
    assert report.validation.passed


def test_a_damaged_artifact_is_refused_before_the_test_set_is_opened(
    make_candidate: MakeCandidate,
    run_promotion: Promote,
    looks: TestSetAccesses,
    model_file: Path,
    damaged: Path,
) -> None:
    recorded = make_candidate().model_sha256
    candidate = make_candidate(damaged, recorded=model_file)
    with pytest.raises(ModelError, match=f"run {candidate.run_id}: model/model.keras: SHA-256"):
        run_promotion(candidate.model_copy(update={"model_sha256": recorded}))
    assert looks.all() == []


@pytest.mark.parametrize("deleted", ["run", "experiment", "for good"])
def test_what_is_deleted_is_named_before_the_test_set_is_opened(
    deleted: str,
    make_candidate: MakeCandidate,
    run_promotion: Promote,
    looks: TestSetAccesses,
    settings: TrackingSettings,
) -> None:
    candidate, restored = make_candidate(), "MLflow has no run"
    with connected(settings) as client:
        experiment_id = client.get_run(candidate.run_id).info.experiment_id
        if deleted == "run":
            client.delete_run(candidate.run_id)
            restored = f"mlflow runs restore --run-id {candidate.run_id}"
        elif deleted == "experiment":
            client.delete_experiment(experiment_id)
            restored = f"mlflow experiments restore --experiment-id {experiment_id}"
        else:
            candidate = candidate.model_copy(update={"run_id": "0" * 32})
    try:
        with pytest.raises(RefusedError, match=restored):
            run_promotion(candidate)
    finally:
        if deleted == "experiment":
            with connected(settings) as client:
                client.restore_experiment(experiment_id)
    assert looks.all() == []


def test_an_artifact_store_that_takes_nothing_is_found_before_the_test_set_is_opened(
    make_candidate: MakeCandidate,
    run_promotion: Promote,
    looks: TestSetAccesses,
    settings: TrackingSettings,
    tmp_path: Path,
) -> None:
    candidate = make_candidate()
    with connected(settings) as client:
        fetch_kept(client, candidate, tmp_path)
        folder = client.get_run(candidate.run_id).info.artifact_uri.removeprefix("file://")
    shutil.rmtree(folder)
    Path(folder).touch()
    with pytest.raises(UnavailableError, match="promotion-probe"):
        run_promotion(candidate)
    assert looks.all() == []


def test_a_name_that_a_prompt_has_is_refused_before_the_test_set_is_opened(
    make_candidate: MakeCandidate,
    run_promotion: Promote,
    looks: TestSetAccesses,
    settings: TrackingSettings,
) -> None:
    candidate = make_candidate()
    with connected(settings) as client:
        client.register_prompt(candidate.promotion.model, "What is in {{picture}}?")
    with pytest.raises(RefusedError, match="MLflow has a prompt of this name"):
        run_promotion(candidate)
    assert looks.all() == []


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
