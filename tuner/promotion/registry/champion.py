"""The champion: the registered version that `tuner predict` uses.

Only the `.keras` file is taken from the registry, and only if it has the recorded hash. An
`MLmodel` file is untrusted input and is never read. The hash is in the version's tags, which anyone
who can write to MLflow can change. So the database of the study that trained the champion decides,
if it is available.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from pydantic import Json, ValidationError

from tuner.code import imported_otherwise
from tuner.datasets.transform import InputTransform, unstated
from tuner.errors import ModelError, RefusedError
from tuner.home import Home
from tuner.inference.keras_start import start_keras
from tuner.inference.predictor import Predictor
from tuner.models.contract import gist
from tuner.models.known_models import register_classes
from tuner.models.model_file import load_verified
from tuner.promotion.nomination import find_code, find_study
from tuner.promotion.registry.model_cache import cached
from tuner.promotion.registry.versions import ALIAS, champion_version, digest, fetch, trial_sha256
from tuner.spec.recipe import Pixels
from tuner.spec.section import Frozen
from tuner.storage.opening import open_database
from tuner.storage.studies import Registrations
from tuner.study.code_folders import folders_here
from tuner.tracking.mlflow.connection import connected
from tuner.tracking.settings import TrackingSettings
from tuner.words import command

if TYPE_CHECKING:
    from mlflow.entities.model_registry import ModelVersion


class Champion(Frozen):
    """A verified model file, its origin, and the form of its input."""

    model: str
    version: int
    model_path: Path
    sha256: str
    trial_sha256: str
    """The hash of the trial's own file, by which accesses to test sets name the model."""
    study: str
    study_uid: str
    """Empty if an earlier version of tuner registered it."""
    trial: int
    run_id: str
    classes: tuple[str, ...]
    transform: InputTransform
    """How to turn a picture file into its input."""
    pixels: Pixels
    """The range of the file's input pixels."""
    dataset_digest: str
    """The digest of the data that it was trained and promoted on."""
    train_accuracy: float | None
    """The accuracy on all training rows at its promotion; None for versions of earlier tuners."""
    is_vouched_for: bool
    """Whether the database confirms that its study registered this; False without that study."""


class _VersionTags(Frozen, extra="ignore"):
    """The tags that promotion wrote to the version."""

    sha256: str
    study: str
    study_uid: str = ""
    trial: int
    run_id: str
    classes: Json[tuple[str, ...]]
    transform: Json[InputTransform]
    pixels: Pixels
    dataset_digest: str
    train_accuracy: float | None = None


class _FormerTags(Frozen, extra="ignore"):
    """The tags of versions from before there was an input transform, with pixels in [0, 1]."""

    dataset: str
    image_shape: Json[tuple[int, int, int]]
    background: Literal["dark", "light", "mixed"]
    content_fraction: float

    def now(self) -> dict[str, str]:
        """The same data in the tags of today."""
        reading = unstated(self.dataset)
        transform = reading.transform(self.image_shape, self.background, self.content_fraction)
        return {"transform": transform.model_dump_json(), "pixels": "unit"}


def load_champion(settings: TrackingSettings, model_name: str, home: Home) -> Champion:
    """Finds the champion and fetches its file, unless the cache in `home` has it already.

    Nothing is fetched for a version that contradicts the study's database: its file may be
    anywhere.

    Raises:
        RefusedError: nothing has been promoted under this name.
        ModelError: the version was not made by tuner, its file is not the recorded one, or the
            database has its study, which has not registered this.
        UnavailableError: MLflow does not answer.
    """
    with connected(settings) as client:
        version = champion_version(client, model_name)
    if version is None:
        raise RefusedError(f"{model_name}@{ALIAS}: nothing promoted yet: run `tuner promote best`")
    origin, tags = f"models:/{model_name}/{version.version}", _tags(version)
    is_vouched_for = _is_vouched_for(origin, tags, digest(version.name, version.tags), home)

    def download(folder: Path) -> Path:
        with connected(settings) as client:
            return fetch(client, version, folder)

    return Champion(
        model=model_name,
        version=int(version.version),
        model_path=cached(home.root / "models", tags.sha256, origin, download),
        trial_sha256=trial_sha256(version) or tags.sha256,
        is_vouched_for=is_vouched_for,
        **tags.model_dump(),
    )


def check_trusted(version: "ModelVersion", home: Home) -> None:
    """Checks that tuner registered a version, and its study too if the database has it.

    Raises:
        ModelError: the version was not made by tuner, or its study has not registered it.
    """
    origin = f"models:/{version.name}/{version.version}"
    _is_vouched_for(origin, _tags(version), digest(version.name, version.tags), home)


def _is_vouched_for(origin: str, tags: _VersionTags, known_by: str, home: Home) -> bool:
    """Whether the study has registered the digest `known_by`; False without that study."""
    if find_study(home, tags.study, tags.study_uid) is None:
        return False
    with open_database(home) as database:
        if Registrations(database, tags.study).has(known_by):
            return True
    raise ModelError(
        f"{origin}: study {tags.study!r} of this database "
        "has not registered this file with these tags: they were changed, or an earlier version of "
        "tuner registered it; check and register a model of the study by: "
        + command("promote", "best", tags.study, options=["--replace"])
    )


def open_champion(champion: Champion, home: Home) -> Predictor:
    """Starts Keras and loads the champion.

    The classes of a user's own layers come from the code of the study that trained it, if that
    study is in the database: code is never run because the registry names it.

    Raises:
        ModelError: Keras refuses or cannot run the file, or this process has loaded other code
            under the names of the study's modules.
    """
    study = find_study(home, champion.study, champion.study_uid)
    start_keras(home.root, study.spec.backend if study else "tensorflow")
    if study is not None:
        _check_code(find_code(home, champion.study, champion.trial), champion)
        register_classes(study.spec.model, folders_here(study.code_path))
    model = load_verified(champion.model_path, champion.sha256)
    try:
        return Predictor(model, champion.pixels)
    except Exception as error:  # its layers may be made for another backend
        raise ModelError(f"it cannot be run here: {type(error).__name__}: {gist(error)}") from error


def _check_code(code: Mapping[str, str], champion: Champion) -> None:
    """Checks that the loaded code is that of the champion, not of another network."""
    if others := imported_otherwise(code):
        raise ModelError(
            f"it was trained with other code in the module {others[0]!r} than another network of "
            f"this process runs, see trial {champion.trial} of {champion.study}"
        )


def _tags(version: "ModelVersion") -> _VersionTags:
    stated = {name.removeprefix("tuner."): value for name, value in version.tags.items()}
    try:
        if "transform" not in stated:
            stated |= _FormerTags.model_validate(stated).now()
        renamed = {"sha256": "model.sha256", "dataset_digest": "dataset.digest"}
        named = {ours: stated[tag] for ours, tag in renamed.items() if tag in stated}
        return _VersionTags.model_validate(stated | named)
    except ValidationError as error:
        problem = error.errors()[0]
        raise ModelError(
            f"models:/{version.name}/{version.version}: was not registered by `tuner promote`: "
            f"tag tuner.{problem['loc'][0]}: {problem['msg']}"
        ) from error
