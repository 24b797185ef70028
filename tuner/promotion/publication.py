"""Makes a judged candidate the champion: package, register, fetch back, compare, crown.

A process killed in between leaves the old champion in place; the next promotion of the same
trial finds the version that is there and goes on from it.
"""

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from tuner.datasets.store import read_arrays
from tuner.errors import ModelError, RefusedError
from tuner.models.model_file import load_verified
from tuner.promotion.candidate import Candidate
from tuner.promotion.evidence import Evidence
from tuner.promotion.package import log_package
from tuner.promotion.predictor import Predictor, given
from tuner.promotion.registry import (
    ALIAS,
    champion_version,
    create_version,
    crown,
    discard,
    fetch,
    find_version,
    version_tags,
)

if TYPE_CHECKING:
    import keras
    from mlflow import MlflowClient
    from mlflow.entities.model_registry import ModelVersion

_SAMPLE = 64
"""How many training images the fetched model must answer as the verified one does."""
_SAME = 1e-6
"""The largest difference of a probability that still is the same answer."""


def check_unmoved(
    client: "MlflowClient", candidate: Candidate, before: "ModelVersion | None"
) -> None:
    """Refuses when another trial became champion while this one was judged.

    Args:
        client: connected to the registry.
        candidate: the trial that was judged.
        before: the champion when the judging began.

    Raises:
        RefusedError: the champion is another one now, and not this trial either.
    """
    now = champion_version(client, candidate.promotion.model)
    if now is None or now.run_id == candidate.run_id:
        return
    if before is None or before.version != now.version:
        raise RefusedError(
            f"{now.name}@{ALIAS}: another promotion made version {now.version} the champion "
            "meanwhile; promote again if this trial is to replace it"
        )


def publish(
    client: "MlflowClient",
    candidate: Candidate,
    model: "keras.Model",
    model_file: Path,
    evidence: Evidence,
) -> int:
    """Registers the model, or finds its version, and moves the alias to it.

    Whoever calls holds the promotion lock.

    Returns:
        The version that the alias names now.

    Raises:
        ModelError: the registry gives back another file or other answers; the alias has not
            moved, and the next promotion makes a new version.
        RefusedError: another machine moved the alias at the same moment.
    """
    sample = given(read_arrays(candidate.dataset.train)[0][:_SAMPLE], candidate.pixels)
    version = find_version(client, candidate) or _register(
        client, candidate, model_file, sample, evidence
    )
    try:
        _check_answers(version, candidate.model_sha256, model, sample)
    except ModelError:
        discard(client, version)
        raise
    crown(client, version)
    return int(version.version)


def _register(
    client: "MlflowClient",
    candidate: Candidate,
    model_file: Path,
    sample: NDArray[np.float32],
    evidence: Evidence,
) -> "ModelVersion":
    name, classes = candidate.promotion.model, len(candidate.dataset.classes)
    model_id = log_package(client, candidate.run_id, name, model_file, sample[:1], classes)
    return create_version(client, candidate, model_id, version_tags(candidate, evidence.metrics))


def _check_answers(
    version: "ModelVersion", sha256: str, model: "keras.Model", sample: NDArray[np.float32]
) -> None:
    """Fetches the version by its registry address and asks both models the same."""
    number = int(version.version)
    with TemporaryDirectory() as folder:
        fetched = load_verified(fetch(version.name, number, Path(folder)), sha256)
    expected = Predictor(model).probabilities(sample)
    if not np.allclose(
        Predictor(fetched).probabilities(sample), expected, rtol=0, atol=_SAME, equal_nan=False
    ):
        raise ModelError(
            f"models:/{version.name}/{number}: must answer like the trial's model on {_SAMPLE} "
            f"images to within {_SAME}, and does not"
        )
