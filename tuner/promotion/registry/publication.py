"""Makes a judged candidate the champion: registers it, fetches it back, compares, moves the alias.

A process that is killed in between leaves the old champion in place. The next promotion of the same
trial finds the version that is there and continues with it.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from tuner.datasets.store import read_arrays
from tuner.errors import ModelError, RefusedError
from tuner.inference.predictor import Predictor, given
from tuner.models.model_file import load_verified, sha256_of
from tuner.promotion.candidate import Candidate
from tuner.promotion.judging.kept_model import FetchedModel
from tuner.promotion.registry.history import move_alias
from tuner.promotion.registry.package import log_package, servable
from tuner.promotion.registry.versions import (
    ALIAS,
    Alias,
    champion_version,
    check_kept,
    create_version,
    describe_again,
    digest,
    discard,
    find_version,
    is_identifying,
    version_tags,
)
from tuner.storage.studies import Registrations
from tuner.training.rounding import distance, within_noise

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities.model_registry import ModelVersion

_SAMPLE = 64
"""The number of training images on which the packed model must agree with the trial's own."""


def check_unmoved(
    client: "MlflowClient", candidate: Candidate, before: "ModelVersion | None"
) -> None:
    """Checks that no other trial became champion while this one was judged.

    Args:
        client: connected to the registry.
        candidate: the trial that was judged.
        before: the champion when the judging began.

    Raises:
        RefusedError: the champion is another one now, and not this trial.
    """
    now = champion_version(client, candidate.promotion.model)
    if now is None or now.run_id == candidate.run_id:
        return
    if before is None or before.version != now.version:
        raise RefusedError(
            f"{now.name}@{ALIAS}: another promotion made version {now.version} the champion "
            "meanwhile; promote again if this trial is to replace it"
        )


@dataclass(frozen=True)
class PackedModel:
    """A candidate's network as it will be registered: with pixels from 0 to 255 as input."""

    file: Path
    sha256: str
    predictor: Predictor


def pack(candidate: Candidate, kept: FetchedModel, folder: Path) -> PackedModel:
    """Saves the network behind a layer that takes raw pixels, and loads it again.

    Raises:
        ModelError: Keras does not load what it has saved, or its answers for 64 training images
            differ from those of the trial's own model by more than rounding.
    """
    file = folder / "model.keras"
    servable(kept.model, candidate.dataset.image_shape, candidate.pixels).save(file)
    sha256 = sha256_of(file)
    packed = PackedModel(file, sha256, Predictor(load_verified(file, sha256), "bytes"))
    sample = read_arrays(candidate.dataset.train)[0][:_SAMPLE]
    expected = kept.predictor.probabilities(sample)
    apart = distance(packed.predictor.probabilities(sample), expected)
    if not within_noise(apart, expected, candidate.precision):
        raise ModelError(
            f"trial {candidate.number} of {candidate.study}: packed for the registry, its "
            f"network gives probabilities that are {apart:.2g} off"
        )
    return packed


def publish(
    client: "MlflowClient",
    candidate: Candidate,
    packed: PackedModel,
    figures: Mapping[str, float],
    registrations: Registrations,
    description: str = "",
    alias: Alias = ALIAS,
    check: Callable[[], None] = lambda: None,
) -> int:
    """Registers the packed model, or finds its version, and moves the alias to it.

    The caller holds the promotion lock. The version's tags have the `figures`, its `description`
    is in Markdown; both are those of the newest promotion, but a description that a person has
    written stays. The tags that a prediction depends on
    are written into `registrations` before the registry has them; a version that is not there does
    not count. `check` is called last before the alias moves.

    Returns:
        The version that the alias names now.

    Raises:
        ModelError: the registry returns another file; the alias has not moved, and the next
            promotion makes a new version.
        RefusedError: another machine moved the alias at the same moment.
    """
    version = find_version(client, candidate, registrations)
    if version is None:
        version = _register(client, candidate, packed, figures, registrations, description)
    elif description:
        _renew(client, version, version_tags(candidate, figures, packed.sha256), description)
    try:
        check_kept(client, version)
    except ModelError:
        discard(client, version)
        raise
    check()  # registering takes a while
    move_alias(client, version, "promote", _why(candidate), alias)
    return int(version.version)


def _register(
    client: "MlflowClient",
    candidate: Candidate,
    packed: PackedModel,
    figures: Mapping[str, float],
    registrations: Registrations,
    description: str,
) -> "ModelVersion":
    name, classes = candidate.promotion.model, len(candidate.dataset.classes)
    example = given(read_arrays(candidate.dataset.train)[0][:1], "bytes").round().astype(np.uint8)
    model_id = log_package(client, candidate.run_id, name, packed.file, example, classes)
    tags = version_tags(candidate, figures, packed.sha256)
    registrations.add(digest(name, tags))
    return create_version(client, candidate, model_id, tags, description)


def _renew(
    client: "MlflowClient", version: "ModelVersion", tags: Mapping[str, str], description: str
) -> None:
    """Writes the findings of a newer promotion to a version, but nothing that identifies it."""
    describe_again(client, version, description)
    for key, value in tags.items():
        if not is_identifying(key) and version.tags.get(key) != value:
            client.set_model_version_tag(version.name, version.version, key, value)


def _why(candidate: Candidate) -> str:
    """The verdict; the tags of the version have the figures beside it."""
    return candidate.grounds.lines[0] if candidate.grounds and candidate.grounds.lines else ""
