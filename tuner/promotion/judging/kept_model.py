"""Fetches the model that a trial's run keeps, verifies it and loads it.

Does not open the test set, so that any fault of a model shows before.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tuner.errors import ModelError
from tuner.inference.predictor import Predictor
from tuner.models.contract import check_network
from tuner.models.known_models import register_classes
from tuner.models.model_file import load_verified
from tuner.promotion.candidate import Candidate
from tuner.promotion.judging.reproduction import Reproduction, reproduce
from tuner.promotion.registry.model_cache import cached
from tuner.tracking.runs.attempt_run import MODEL_ARTIFACT
from tuner.words import command

if TYPE_CHECKING:
    import keras
    from mlflow import MlflowClient


@dataclass(frozen=True)
class FetchedModel:
    """A candidate's model, ready to answer."""

    file: Path
    """The verified file, in the model cache."""
    model: "keras.Model"
    predictor: Predictor
    reproduction: Reproduction | None
    """None if the study has no validation rows."""


def fetch_kept(client: "MlflowClient", candidate: Candidate, home: Path) -> Path:
    """Fetches the candidate's model file into the model cache of `home`, and verifies it.

    Raises:
        ModelError: the run keeps no model, or another file than the recorded one.
    """
    origin = f"run {candidate.run_id}: {MODEL_ARTIFACT}"

    def download(folder: Path) -> Path:
        kept = {item.path for item in client.list_artifacts(candidate.run_id, "model")}
        if MODEL_ARTIFACT not in kept:
            raise ModelError(
                f"{origin}: the run of trial {candidate.number} keeps no model; only trials that "
                "rank first do, and one that is still on its way is sent to MLflow with: "
                + command("sync", candidate.study)
            )
        return Path(client.download_artifacts(candidate.run_id, MODEL_ARTIFACT, str(folder)))

    return cached(home / "models", candidate.model_sha256, origin, download)


def load_kept(candidate: Candidate, file: Path) -> FetchedModel:
    """Loads a fetched file and checks that it reproduces its figures. Keras must have been started.

    Raises:
        ModelError: Keras refuses the file, it does not fit the data set, or it is another
            network than the one that was validated.
    """
    model = load_model(candidate, file)
    predictor = Predictor(model, candidate.pixels)
    return FetchedModel(file, model, predictor, _reproduced(candidate, predictor))


def load_model(candidate: Candidate, file: Path) -> "keras.Model":
    """Loads a fetched file and checks its shapes alone.

    Raises:
        ModelError: Keras refuses the file, or it does not fit the data set.
    """
    register_classes(candidate.model.name, candidate.model.code_path)
    model = load_verified(file, candidate.model_sha256)
    dataset = candidate.dataset
    check_network(model, candidate.model.name, dataset.image_shape, len(dataset.classes))
    return model


def _reproduced(candidate: Candidate, predictor: Predictor) -> Reproduction | None:
    if candidate.validated is None:
        return None
    return reproduce(candidate, candidate.validated, predictor)
