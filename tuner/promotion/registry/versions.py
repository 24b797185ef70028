"""Registered versions: one for each promoted trial, and the alias that names the champion.

The alias moves only to a version that is READY and whose file was fetched back and compared. The
caller holds the promotion lock, so that promotions on one machine never interleave; because of
other machines the alias is read back after it was set.
"""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Literal

from tuner.account import user
from tuner.errors import ModelError, RefusedError
from tuner.models.model_file import check_hash
from tuner.promotion.candidate import Candidate, Grounds
from tuner.promotion.registry.package import PACKED_FILE
from tuner.storage.studies import Registrations
from tuner.tracking.descriptions import DIGEST_TAG, digest_of
from tuner.tracking.runs.attempt_run import MODEL_SHA256_TAG
from tuner.tracking.runs.study_run import STUDY_UID_TAG
from tuner.words import command, plain

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities.model_registry import ModelVersion
    from mlflow.exceptions import MlflowException

ALIAS: Literal["champion"] = "champion"
PREVIOUS = "previous"
"""The alias of the champion before."""
CHALLENGER: Literal["challenger"] = "challenger"
"""The alias of a version beside the champion."""
Alias = Literal["champion", "challenger"]
"""The aliases under which a model is promoted."""
PIXELS_TAG = "tuner.pixels"
_TRIAL_SHA256_TAG = "tuner.trial.model.sha256"
"""The tag with the hash of the file that the registered one was made from."""
_DAMAGED_TAG = "tuner.damaged"
_PREDICTED_BY = (
    "tuner.study",
    "tuner.trial",
    "tuner.run_id",
    MODEL_SHA256_TAG,
    _TRIAL_SHA256_TAG,
    "tuner.classes",
    "tuner.transform",
    PIXELS_TAG,
)
"""The tags that say which file answers, for which study, and what its answers mean."""
_STATED_LATER = (STUDY_UID_TAG,)
"""Further such tags, which versions of earlier tuners lack."""
_READY_WITHIN_S = 120


def champion_version(client: "MlflowClient", name: str) -> "ModelVersion | None":
    """The champion of a model; None if there is no such model or no champion."""
    return aliased_version(client, name, ALIAS)


def aliased_version(client: "MlflowClient", name: str, alias: str) -> "ModelVersion | None":
    """The version that an alias names; None if there is no such model or alias."""
    from mlflow.exceptions import MlflowException

    try:
        return client.get_model_version_by_alias(name, alias)
    except MlflowException as error:
        if is_missing(error):
            return None
        raise


def check_name(client: "MlflowClient", name: str) -> None:
    """Checks that no prompt of the registry has this name, which then could not be a model's.

    Raises:
        RefusedError: the registry has a prompt of that name.
    """
    if client.get_prompt(name) is not None:
        raise RefusedError(
            f"promotion.model {name!r}: MLflow has a prompt of this name, so no model can be "
            "registered under it; give the model another name in the study file"
        )


def find_version(
    client: "MlflowClient", candidate: Candidate, registrations: Registrations
) -> "ModelVersion | None":
    """The newest READY version that an earlier promotion made of the candidate's model.

    A version does not count if its tags differ from the candidate's, as those from before raw
    pixels could be served do, or if the study has not registered it.
    """
    found = [
        version
        for version in client.search_model_versions(f"run_id = '{candidate.run_id}'")
        if version.name == candidate.promotion.model
        and version.status == "READY"
        and _origin_tags(candidate).items() <= version.tags.items()
        and _DAMAGED_TAG not in version.tags
        and registrations.has(digest(version.name, version.tags))
    ]
    return max(found, key=lambda version: int(version.version), default=None)


def trial_sha256(version: "ModelVersion") -> str | None:
    """The hash of the trial's own file, which earlier versions of tuner registered itself."""
    tags: dict[str, str] = version.tags
    return tags.get(_TRIAL_SHA256_TAG, tags.get(MODEL_SHA256_TAG))


def digest(model: str, tags: Mapping[str, str]) -> str:
    """The SHA-256 of a model's name and the tags that a prediction depends on, in hexadecimal.

    The file's hash is among the tags. The study's database keeps this digest, so that a change of
    the tags in the registry is detected.
    """
    stated = {name: tags.get(name) for name in _PREDICTED_BY}
    stated |= {name: tags[name] for name in _STATED_LATER if name in tags}
    return hashlib.sha256(json.dumps([model, stated]).encode()).hexdigest()


def is_identifying(tag: str) -> bool:
    """Whether a tag says which file a version is, and what its answers mean."""
    return tag in (*_PREDICTED_BY, *_STATED_LATER)


def create_version(
    client: "MlflowClient",
    candidate: Candidate,
    model_id: str,
    tags: Mapping[str, str],
    description: str = "",
) -> "ModelVersion":
    """Registers a logged model as a new version and waits until it is READY."""
    name = candidate.promotion.model
    _ensure_registered(client, name, _about(candidate))
    version = client.create_model_version(
        name,
        source=f"models:/{model_id}",
        run_id=candidate.run_id,
        tags={**tags, DIGEST_TAG: digest_of(description)},
        model_id=model_id,
        description=description,
        await_creation_for=_READY_WITHIN_S,
    )
    return client.get_model_version(name, version.version)


def version_tags(candidate: Candidate, results: Mapping[str, float], sha256: str) -> dict[str, str]:
    """The tags of a version: its origin, and what a prediction with it needs.

    Args:
        candidate: the trial.
        results: the figures of its evidence.
        sha256: the hash of the registered file, which takes pixels in [0, 255].
    """
    return {
        **_origin_tags(candidate),
        MODEL_SHA256_TAG: sha256,
        "tuner.dataset": candidate.dataset.name,
        "tuner.dataset.digest": candidate.dataset.digest,
        "tuner.gates": candidate.promotion.gates.model_dump_json(exclude_none=True),
        **{f"tuner.{name}": repr(value) for name, value in results.items()},
        **_verdict_tags(candidate.grounds),
        "tuner.user": user(),
    }


def _verdict_tags(grounds: Grounds | None) -> dict[str, str]:
    """The tags that say which point a version trains, and why that one."""
    if grounds is None:
        return {}
    stated = {
        "tuner.chosen.study": grounds.study,
        "tuner.chosen.point": str(grounds.point),
        "tuner.chosen.by": grounds.confirmation or "",
        "tuner.refit": str(grounds.refit).lower(),
        "tuner.verdict": "; ".join(grounds.lines),
    }
    return {name: value for name, value in stated.items() if value}


def _origin_tags(candidate: Candidate) -> dict[str, str]:
    """The tags of a version that are known before its file is made."""
    return {
        "tuner.study": candidate.study,
        STUDY_UID_TAG: candidate.study_uid,
        "tuner.trial": str(candidate.number),
        "tuner.run_id": candidate.run_id,
        _TRIAL_SHA256_TAG: candidate.model_sha256,
        "tuner.classes": json.dumps(candidate.dataset.classes),
        "tuner.transform": candidate.dataset.transform.model_dump_json(),
        PIXELS_TAG: "bytes",
    }


def fetch(client: "MlflowClient", version: "ModelVersion", folder: Path) -> Path:
    """Downloads a version's model file from the registry that is MLflow's default now.

    Uses the location that the registry states: an address with the model's name in it would break
    on a name with a question mark.
    """
    import mlflow

    place = client.get_model_version_download_uri(version.name, version.version)
    uri = f"{place}/{PACKED_FILE}"
    return Path(mlflow.artifacts.download_artifacts(artifact_uri=uri, dst_path=str(folder)))


def check_kept(client: "MlflowClient", version: "ModelVersion") -> None:
    """Fetches the version's file from the registry, and compares its hash.

    Raises:
        ModelError: the registry returns another file.
    """
    origin = f"models:/{version.name}/{version.version}"
    with TemporaryDirectory() as folder:
        check_hash(fetch(client, version, Path(folder)), version.tags[MODEL_SHA256_TAG], origin)


def crown(client: "MlflowClient", version: "ModelVersion", alias: Alias = ALIAS) -> None:
    """Moves an alias to a READY version and reads it back.

    Raises:
        ModelError: the version is not READY; the alias has not moved.
        RefusedError: another machine moved the alias at the same moment.
    """
    from mlflow.exceptions import MlflowException

    where = f"models:/{version.name}/{version.version}"
    if version.status != "READY":
        raise ModelError(f"{where}: must be READY, got {version.status}")
    try:
        client.set_registered_model_alias(version.name, alias, version.version)
    except MlflowException as error:
        # If two set it for the first time at once, the database refuses one as a bad request.
        if error.error_code != "BAD_REQUEST":
            raise
    now = aliased_version(client, version.name, alias)
    if now is None or int(now.version) != int(version.version):
        got = f"version {now.version}" if now else "nothing"
        raise RefusedError(
            f"{where}: another promotion moved {version.name}@{alias} to {got} at the same "
            "moment; promote again if this one is to replace it"
        )


def describe_again(client: "MlflowClient", version: "ModelVersion", description: str) -> None:
    """Replaces a version's description, unless a person has written or changed it."""
    before = client.get_model_version(version.name, version.version)
    present = before.description or ""
    if present and digest_of(present) not in before.tags.get(DIGEST_TAG, "").split():
        return
    # The tag comes first and names both, since this process may be killed between the two calls.
    digests = f"{digest_of(present)} {digest_of(description)}"
    client.set_model_version_tag(version.name, version.version, DIGEST_TAG, digests)
    client.update_model_version(version.name, version.version, description)


def discard(client: "MlflowClient", version: "ModelVersion") -> None:
    """Deletes a version that cannot be trusted, or marks it if an alias names it."""
    current = client.get_model_version(version.name, version.version)
    if current.aliases:
        client.set_model_version_tag(version.name, version.version, _DAMAGED_TAG, "true")
    else:
        client.delete_model_version(version.name, version.version)


def _about(candidate: Candidate) -> str:
    """What a registered model is, in Markdown."""
    data, name = candidate.dataset, candidate.promotion.model
    height, width, _ = data.image_shape
    return (
        f"Classifies images of {height} x {width} pixels into the {len(data.classes)} classes of "
        f"{plain(data.name)}. Each version is a network that `tuner promote` has tested and "
        f"registered; its description is its model card. The alias `{ALIAS}` names the version in "
        f"use, `{PREVIOUS}` the one before. The tags `tuner.act...` are the record of who moved "
        f"them and why; `{command('registry history', name)}` shows it."
    )


def _ensure_registered(client: "MlflowClient", name: str, description: str) -> None:
    """Creates the registered model if need be, and describes one that nobody has described."""
    from mlflow.exceptions import MlflowException

    try:
        client.create_registered_model(name, description=description)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
        if not client.get_registered_model(name).description:
            client.update_registered_model(name, description)


def is_missing(error: "MlflowException") -> bool:
    """Whether the registry lacks the model, version or alias that was asked for."""
    # MLflow calls a missing alias of an existing model an invalid parameter.
    missing_alias = (
        error.error_code == "INVALID_PARAMETER_VALUE" and "alias" in error.message.lower()
    )
    return error.error_code == "RESOURCE_DOES_NOT_EXIST" or missing_alias
