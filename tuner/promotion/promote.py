"""Promotion: evidence first, gates next, and only then the registry."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import Field

from tuner.datasets.atomic import exclusive
from tuner.errors import ModelError
from tuner.models.contract import check_network
from tuner.models.model_file import load_verified
from tuner.models.registry import register_classes
from tuner.promotion.candidate import Candidate
from tuner.promotion.evidence import Evidence, gather, look
from tuner.promotion.gates import GateResult, check
from tuner.promotion.keras_start import start_keras
from tuner.promotion.model_cache import cached
from tuner.promotion.predictor import Predictor
from tuner.promotion.publication import check_unmoved, publish
from tuner.promotion.record import record_evidence
from tuner.promotion.registry import ALIAS, champion_version
from tuner.spec.search_space import Frozen
from tuner.tracking.attempt_run import MODEL_ARTIFACT
from tuner.tracking.connection import connected
from tuner.tracking.settings import TrackingSettings
from tuner.training.plan import Evaluation

if TYPE_CHECKING:
    import keras
    from mlflow import MlflowClient


class PromotionReport(Frozen):
    """What a promotion found and did; its JSON is what `tuner promote --json` prints."""

    promoted: bool
    model: str
    version: int | None
    alias: str | None
    run_id: str
    metrics: dict[str, float]
    gates: tuple[GateResult, ...]
    evidence: Evidence = Field(exclude=True)

    @property
    def passed(self) -> bool:
        """Whether every stated gate passed."""
        return all(gate.passed for gate in self.gates)


def promote(
    candidate: Candidate,
    settings: TrackingSettings,
    home: Path,
    *,
    dry_run: bool = False,
    before_look: Callable[[], None],
    say: Callable[[str], None],
) -> PromotionReport:
    """Judges the candidate on the test rows and, if every gate passes, makes it the champion.

    A gate that fails, and a dry run, leave the run and the registry as they were. Promoting
    the same trial again finishes what was cut short, with the same version.

    Args:
        candidate: the trial.
        settings: where its run is and the registry lies.
        home: the state folder, for the model cache and the promotion lock.
        dry_run: stop after the gates.
        before_look: called once, right before the test folder is opened.
        say: told each step in a line.

    Raises:
        ModelError: the model is missing, damaged, not trusted, or does not fit the data set;
            or the registry gives back something else than what it was given.
        RefusedError: another promotion moved the alias meanwhile.
        UnavailableError: MLflow does not answer.
    """
    say(f"fetching the model of trial {candidate.number} of {candidate.study}")
    with connected(settings) as client:
        champion = champion_version(client, candidate.promotion.model)
        model_file = _fetch(client, candidate, home)
    start_keras(home, candidate.backend)
    model = _load(model_file, candidate)
    say("measuring training accuracy, latency and, last, the test set")
    evidence = gather(candidate, model, model_file, before_look)
    gates = check(evidence, candidate.promotion.gates)
    version = None
    if not dry_run and all(gate.passed for gate in gates):
        with exclusive(home / "promotion.lock"), connected(settings) as client:
            check_unmoved(client, candidate, champion)
            say("recording the evidence and registering the model")
            record_evidence(client, candidate, evidence, gates)
            version = publish(client, candidate, model, evidence)
            say(f"{candidate.promotion.model} version {version} is the champion")
    return PromotionReport(
        promoted=version is not None,
        model=candidate.promotion.model,
        version=version,
        alias=None if version is None else ALIAS,
        run_id=candidate.run_id,
        metrics=evidence.metrics,
        gates=gates,
        evidence=evidence,
    )


def evaluate_test(
    candidate: Candidate,
    settings: TrackingSettings,
    home: Path,
    before_look: Callable[[], None],
) -> Evaluation:
    """Scores the candidate on the test rows and changes nothing.

    Raises:
        ModelError: the model is missing, damaged, not trusted, or does not fit the data set.
        UnavailableError: MLflow does not answer.
    """
    with connected(settings) as client:
        model_file = _fetch(client, candidate, home)
    start_keras(home, candidate.backend)
    model = _load(model_file, candidate)
    return look(Predictor(model, candidate.pixels), candidate.dataset, before_look)


def _fetch(client: "MlflowClient", candidate: Candidate, home: Path) -> Path:
    origin = f"run {candidate.run_id}: {MODEL_ARTIFACT}"

    def download(folder: Path) -> Path:
        kept = {item.path for item in client.list_artifacts(candidate.run_id, "model")}
        if MODEL_ARTIFACT not in kept:
            raise ModelError(
                f"{origin}: the run of trial {candidate.number} keeps no model; only the best "
                "trials of a study do, and a model may still be on its way to MLflow"
            )
        return Path(client.download_artifacts(candidate.run_id, MODEL_ARTIFACT, str(folder)))

    return cached(home / "models", candidate.model_sha256, origin, download)


def _load(model_file: Path, candidate: Candidate) -> "keras.Model":
    register_classes(candidate.model.name, candidate.model.code_path)
    model = load_verified(model_file, candidate.model_sha256)
    dataset = candidate.dataset
    check_network(model, candidate.model.name, dataset.image_shape, len(dataset.classes))
    return model
