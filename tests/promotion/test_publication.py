"""The registry: which version the alias names, whatever happened before or meanwhile."""

from dataclasses import replace
from pathlib import Path

import mlflow
import numpy as np
import pytest
from mlflow.exceptions import MlflowException
from numpy.typing import NDArray

from tests.promotion.conftest import MakeCandidate, Publish, stored_file
from tuner.datasets.transform import DRAWINGS
from tuner.errors import ModelError, RefusedError, UnavailableError
from tuner.home import Home
from tuner.inference.predictor import Predictor
from tuner.models.model_file import load_verified, sha256_of
from tuner.promotion.candidate import Candidate
from tuner.promotion.judging.kept_model import load_kept
from tuner.promotion.registry.champion import load_champion
from tuner.promotion.registry.package import log_package
from tuner.promotion.registry.publication import check_unmoved, pack
from tuner.promotion.registry.versions import (
    create_version,
    crown,
    describe_again,
    version_tags,
)
from tuner.spec.recipe import Pixels
from tuner.spec.study_spec import Promotion
from tuner.tracking.mlflow.connection import connected
from tuner.tracking.settings import TrackingSettings


def versions(settings: TrackingSettings, name: str) -> dict[int, list[str]]:
    """Every version of the model and its aliases."""
    with connected(settings) as client:
        numbers = [found.version for found in client.search_model_versions(f"name = '{name}'")]
        return {
            int(number): list(client.get_model_version(name, number).aliases) for number in numbers
        }


def remove_alias(settings: TrackingSettings, candidate: Candidate) -> None:
    with connected(settings) as client:
        client.delete_registered_model_alias(candidate.promotion.model, "champion")


def test_a_version_leads_back_to_its_trial(
    published: Candidate, settings: TrackingSettings
) -> None:
    with connected(settings) as client:
        version = client.get_model_version_by_alias(published.promotion.model, "champion")
        logged = client.get_logged_model(version.source.removeprefix("models:/"))
        experiment_id = client.get_run(published.run_id).info.experiment_id
    assert version.status == "READY"
    assert version.run_id == logged.source_run_id == published.run_id
    assert logged.experiment_id == experiment_id
    assert version.tags["tuner.study"] == published.study
    assert version.tags["tuner.trial"] == "3"
    assert version.tags["tuner.trial.model.sha256"] == published.model_sha256
    assert version.tags["tuner.dataset.digest"] == published.dataset.digest


@pytest.mark.slow
def test_a_version_is_described_again_until_a_person_describes_it(
    published: Candidate, settings: TrackingSettings
) -> None:
    with connected(settings) as client:
        version = client.get_model_version_by_alias(published.promotion.model, "champion")
        for text in ("a card", "a newer card", "a newer card"):
            describe_again(client, version, text)
            assert client.get_model_version(version.name, version.version).description == text
        client.update_model_version(version.name, version.version, "a newer card, and I say: good")
        describe_again(client, version, "the newest card")
        left = client.get_model_version(version.name, version.version).description
        assert left == "a newer card, and I say: good"


@pytest.mark.slow_variants
@pytest.mark.parametrize("pixels", ["unit", "bytes"])
def test_the_package_is_one_that_mlflow_serves_for_raw_pictures(
    pixels: Pixels,
    make_candidate: MakeCandidate,
    publish: Publish,
    settings: TrackingSettings,
    model_file: Path,
    test_images: NDArray[np.uint8],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    candidate = make_candidate().model_copy(update={"pixels": pixels})
    publish(candidate)
    with connected(settings):
        import mlflow

        monkeypatch.setenv("MLFLOW_ALLOW_PICKLE_DESERIALIZATION", "true")
        served = mlflow.pyfunc.load_model(
            f"models:/{candidate.promotion.model}@champion", dst_path=str(tmp_path)
        )
        answers = served.predict(test_images)
        with pytest.raises(MlflowException, match="uint8"):
            served.predict(test_images / np.float32(255))
    signature = served.metadata.signature
    assert signature.inputs.inputs[0].shape == (-1, 8, 8, 1)
    assert signature.inputs.inputs[0].type == np.dtype(np.uint8)
    assert signature.outputs.inputs[0].shape == (-1, 10)
    own = Predictor(load_verified(model_file, candidate.model_sha256), pixels)
    np.testing.assert_allclose(answers, own.probabilities(test_images), atol=1e-6)
    assert (tmp_path / "input_example.json").exists()
    requirements = (tmp_path / "requirements.txt").read_text().split()
    assert all("==" in requirement for requirement in requirements)
    assert {"keras", "tensorflow", "numpy"} <= {line.partition("==")[0] for line in requirements}


@pytest.mark.slow_variants
@pytest.mark.parametrize("name", ["v1.2", "50%", "run#7"])
def test_what_a_study_file_may_call_a_model_is_registered_and_found(
    name: str,
    make_candidate: MakeCandidate,
    publish: Publish,
    settings: TrackingSettings,
    tmp_path: Path,
) -> None:
    candidate = make_candidate()
    called = candidate.model_copy(update={"promotion": Promotion(model=name)})
    with connected(settings) as client:
        client.create_registered_model(name)
    assert publish(called) == 1
    with connected(settings) as client:
        assert "8 x 8 pixels" in client.get_registered_model(name).description
        for address in (f"models:/{name}@champion", f"models:/{name}/1"):
            found = mlflow.artifacts.download_artifacts(address, dst_path=str(tmp_path))
            assert (Path(found) / "data" / "model.keras").is_file()


def test_a_model_of_data_that_is_kept_as_floats_is_served_for_raw_pictures_too(
    make_candidate: MakeCandidate, publish: Publish, settings: TrackingSettings, tmp_path: Path
) -> None:
    candidate = make_candidate()
    rows = tmp_path / "train"
    rows.mkdir()
    for name, scale in (("images", np.float32(1 / 255)), ("labels", np.int64(1))):
        np.save(rows / f"{name}.npy", np.load(candidate.dataset.train / f"{name}.npy") * scale)
    dataset = candidate.dataset.model_copy(update={"folder": tmp_path})
    publish(candidate.model_copy(update={"dataset": dataset}))
    with connected(settings):
        import mlflow

        info = mlflow.models.get_model_info(f"models:/{candidate.promotion.model}@champion")
    assert info.signature.inputs.inputs[0].type == np.dtype(np.uint8)


def test_the_champion_answers_as_the_trials_model_and_leads_back_to_it(
    published: Candidate,
    settings: TrackingSettings,
    model_file: Path,
    test_images: NDArray[np.uint8],
    tmp_path: Path,
) -> None:
    champion = load_champion(settings, published.promotion.model, Home(tmp_path))
    assert champion.model_path.read_bytes() == stored_file(settings, published).read_bytes()
    assert champion.sha256 == sha256_of(champion.model_path)
    assert (champion.study, champion.trial, champion.run_id) == (
        published.study,
        published.number,
        published.run_id,
    )
    dataset = published.dataset
    assert champion.classes == dataset.classes
    assert champion.transform == dataset.transform
    assert champion.pixels == "bytes"
    answers = Predictor(load_verified(champion.model_path, champion.sha256), champion.pixels)
    own = Predictor(load_verified(model_file, published.model_sha256))
    np.testing.assert_allclose(
        answers.probabilities(test_images), own.probabilities(test_images), atol=1e-6
    )


def test_a_version_of_the_time_before_transforms_answers_until_its_trial_is_promoted_again(
    make_candidate: MakeCandidate,
    publish: Publish,
    settings: TrackingSettings,
    model_file: Path,
    test_images: NDArray[np.uint8],
    tmp_path: Path,
) -> None:
    """It registered the trial's file itself, which takes pixels in [0, 1] and serves none."""
    candidate = make_candidate()
    name, run_id = candidate.promotion.model, candidate.run_id
    tags = {
        **version_tags(candidate, {}, candidate.model_sha256),
        "tuner.image_shape": "[8, 8, 1]",
        "tuner.background": "dark",
        "tuner.content_fraction": "1.0",
    }
    for later in ("tuner.transform", "tuner.pixels", "tuner.trial.model.sha256"):
        del tags[later]
    with connected(settings) as client:
        model_id = log_package(client, run_id, name, model_file, test_images[:1], classes=10)
        crown(client, create_version(client, candidate, model_id, tags))

    champion = load_champion(settings, name, Home(tmp_path))
    assert champion.sha256 == candidate.model_sha256
    assert champion.pixels == "unit"
    assert champion.transform == DRAWINGS.transform((8, 8, 1), "dark", 1.0)

    assert publish(candidate) == 2
    assert load_champion(settings, name, Home(tmp_path)).pixels == "bytes"


def test_the_next_champion_takes_the_alias_and_the_old_version_stays(
    make_candidate: MakeCandidate,
    publish: Publish,
    settings: TrackingSettings,
    other_model_file: Path,
    tmp_path: Path,
) -> None:
    first, second = make_candidate(), make_candidate(other_model_file, number=4)
    name = first.promotion.model
    publish(first)
    assert publish(second) == 2
    assert versions(settings, name) == {1: ["previous"], 2: ["champion"]}
    assert load_champion(settings, name, Home(tmp_path)).trial == 4


def test_what_mlflow_refuses_in_a_logged_models_name_may_be_in_a_registered_ones(
    make_candidate: MakeCandidate, publish: Publish, settings: TrackingSettings, tmp_path: Path
) -> None:
    candidate, printable = make_candidate(), map(chr, range(33, 127))
    name = "digits-v1.2 " + "".join(mark for mark in printable if mark not in "/:")
    promotion = candidate.promotion.model_copy(update={"model": name})
    publish(candidate.model_copy(update={"promotion": promotion}))
    assert load_champion(settings, name, Home(tmp_path)).trial_sha256 == candidate.model_sha256


def test_a_promotion_killed_before_the_alias_is_finished_by_the_next(
    published: Candidate, publish: Publish, settings: TrackingSettings
) -> None:
    remove_alias(settings, published)
    assert publish(published) == 1
    assert versions(settings, published.promotion.model) == {1: ["champion"]}


def test_a_champion_that_came_meanwhile_is_not_replaced(
    make_candidate: MakeCandidate,
    publish: Publish,
    settings: TrackingSettings,
    other_model_file: Path,
) -> None:
    slow, fast = make_candidate(), make_candidate(other_model_file, number=4)
    publish(fast)
    with (
        pytest.raises(RefusedError, match="another promotion made version 1 the champion"),
        connected(settings) as client,
    ):
        check_unmoved(client, slow, before=None)
    with connected(settings) as client:
        check_unmoved(client, fast, before=None)
    publish(slow)


def test_a_packed_network_that_answers_otherwise_than_the_trials_is_refused(
    make_candidate: MakeCandidate, model_file: Path, other_model_file: Path, tmp_path: Path
) -> None:
    candidate = make_candidate()
    other = load_verified(other_model_file, sha256_of(other_model_file))
    answering = replace(load_kept(candidate, model_file), predictor=Predictor(other))
    with pytest.raises(ModelError, match=r"its network gives probabilities that are .* off"):
        pack(candidate, answering, tmp_path)


@pytest.mark.slow_variants
@pytest.mark.parametrize("aliased", [False, True])
def test_a_version_that_comes_back_changed_is_given_up_for_a_new_one(
    published: Candidate, aliased: bool, publish: Publish, settings: TrackingSettings, damaged: Path
) -> None:
    stored_file(settings, published).write_bytes(damaged.read_bytes())
    if not aliased:
        remove_alias(settings, published)
    with pytest.raises(ModelError, match="SHA-256 must be the recorded"):
        publish(published)
    left = {1: ["champion"]} if aliased else {}
    assert versions(settings, published.promotion.model) == left
    assert publish(published) == 2
    assert versions(settings, published.promotion.model)[2] == ["champion"]


def test_a_champion_whose_file_was_changed_is_refused(
    published: Candidate, settings: TrackingSettings, damaged: Path, tmp_path: Path
) -> None:
    stored_file(settings, published).write_bytes(damaged.read_bytes())
    with pytest.raises(ModelError, match=f"models:/{published.promotion.model}/1: SHA-256"):
        load_champion(settings, published.promotion.model, Home(tmp_path))
    assert [path.name for path in (tmp_path / "models").iterdir()] == [".lock"]


def test_a_version_that_tuner_did_not_register_is_refused(
    make_candidate: MakeCandidate, settings: TrackingSettings, tmp_path: Path
) -> None:
    candidate = make_candidate()
    with connected(settings) as client:
        client.create_registered_model("foreign")
        client.create_model_version("foreign", f"runs:/{candidate.run_id}/model", candidate.run_id)
        client.set_registered_model_alias("foreign", "champion", "1")
    with pytest.raises(ModelError, match=r"models:/foreign/1: was not registered by"):
        load_champion(settings, "foreign", Home(tmp_path))


def test_an_unreachable_server_is_named_without_its_password(tmp_path: Path) -> None:
    settings = TrackingSettings("http://ana:hunter2@127.0.0.1:9", "", "tuner")
    with pytest.raises(UnavailableError, match=r"http://\*\*\*@127\.0\.0\.1:9") as refused:
        load_champion(settings, "digits", Home(tmp_path))
    assert "hunter2" not in str(refused.value)
    assert refused.value.__suppress_context__
