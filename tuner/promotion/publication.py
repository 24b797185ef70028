"""Makes a judged candidate the champion: package, register, fetch back, compare, crown.

A process killed in between leaves the old champion in place; the next promotion of the same
trial finds the version that is there and goes on from it.
"""

from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import numpy as np

from tuner.datasets.store import read_arrays
from tuner.errors import ModelError, RefusedError
from tuner.models.model_file import load_verified, sha256_of
from tuner.promotion.candidate import Candidate
from tuner.promotion.package import log_package, servable
from tuner.promotion.predictor import Images, Predictor, given
from tuner.promotion.registry import (
    ALIAS,
    PIXELS_TAG,
    champion_version,
    create_version,
    crown,
    discard,
    fetch,
    find_version,
    version_tags,
)
from tuner.tracking.attempt_run import MODEL_SHA256_TAG

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


def pack(candidate: Candidate, model: "keras.Model", folder: Path) -> Path:
    """Saves the network as it will be registered, taking raw pixels, and loads it again.

    Raises:
        ModelError: Keras does not load what it has saved.
    """
    file = folder / "model.keras"
    servable(model, candidate.dataset.image_shape, candidate.pixels).save(file)
    load_verified(file, sha256_of(file))
    return file


def publish(
    client: "MlflowClient",
    candidate: Candidate,
    model: "keras.Model",
    packed: Path,
    figures: Mapping[str, float],
) -> int:
    """Registers the packed model, or finds its version, and moves the alias to it.

    The caller holds the promotion lock. The version's tags hold the `figures`.

    Returns:
        The version that the alias names now.

    Raises:
        ModelError: the registry gives back another file or other answers; the alias has not
            moved, and the next promotion makes a new version.
        RefusedError: another machine moved the alias at the same moment.
    """
    sample = read_arrays(candidate.dataset.train)[0][:_SAMPLE]
    version = find_version(client, candidate) or _register(
        client, candidate, packed, sample, figures
    )
    try:
        _check_answers(client, version, Predictor(model, candidate.pixels), sample)
    except ModelError:
        discard(client, version)
        raise
    crown(client, version)
    return int(version.version)


def _register(
    client: "MlflowClient",
    candidate: Candidate,
    packed: Path,
    sample: Images,
    figures: Mapping[str, float],
) -> "ModelVersion":
    name, classes = candidate.promotion.model, len(candidate.dataset.classes)
    example = given(sample[:1], "bytes").round().astype(np.uint8)
    model_id = log_package(client, candidate.run_id, name, packed, example, classes)
    tags = version_tags(candidate, figures, sha256_of(packed))
    return create_version(client, candidate, model_id, tags)


def _check_answers(
    client: "MlflowClient", version: "ModelVersion", verified: Predictor, sample: Images
) -> None:
    """Fetches the version from where its registry says it lies, and asks both models the same."""
    tags = version.tags
    with TemporaryDirectory() as folder:
        file = fetch(client, version, Path(folder))
        fetched = load_verified(file, tags[MODEL_SHA256_TAG])
    expected = verified.probabilities(sample)
    answered = Predictor(fetched, tags.get(PIXELS_TAG, "unit")).probabilities(sample)
    if not np.allclose(answered, expected, rtol=0, atol=_SAME, equal_nan=False):
        raise ModelError(
            f"models:/{version.name}/{version.version}: must answer like the trial's model on "
            f"{_SAMPLE} images to within {_SAME}, and does not"
        )
