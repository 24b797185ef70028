"""What the registry has: the models that tuner registered, their versions and aliases."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from tuner.promotion.registry.versions import ALIAS, CHALLENGER, PREVIOUS
from tuner.spec.section import Frozen
from tuner.tracking.mlflow.connection import connected
from tuner.tracking.settings import TrackingSettings

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities.model_registry import ModelVersion, RegisteredModel

_STUDY = "tuner.study"
"""A tag of every version that tuner registers."""
_ACCURACY = "tuner.test_accuracy"
_PAGE = 200


class Version(Frozen):
    """One registered version."""

    version: int
    created_ms: int
    status: str
    """READY once its file is there."""
    study: str
    trial: str
    """The number of its trial."""
    run_id: str
    test_accuracy: float | None
    """None for versions that were not tested, as those of other tools, or if it is unreadable."""
    verdict: str
    """Why its point was chosen; empty for versions of earlier tuners."""
    tags: dict[str, str]
    unreadable: tuple[str, ...] = ()
    """The names of the tags whose value was changed, not by tuner."""


class Model(Frozen):
    """A registered model with a version by tuner."""

    name: str
    champion: int | None
    previous: int | None
    """The champion before."""
    challenger: int | None
    """The version that was registered beside the champion."""
    versions: tuple[Version, ...]
    """Those that tuner registered, the newest first."""

    def version(self, number: int | None) -> Version | None:
        """The version with this number; None if tuner registered none."""
        return next((each for each in self.versions if each.version == number), None)


def registered_models(settings: TrackingSettings) -> list[Model]:
    """Returns the models with a version that tuner registered, by name.

    Raises:
        UnavailableError: MLflow does not answer.
    """
    if settings.is_absent:
        return []
    with connected(settings) as client:
        return list(_models(client))


def _models(client: "MlflowClient") -> Iterator[Model]:
    token: str | None = None
    while True:
        page = client.search_registered_models(
            max_results=_PAGE, order_by=["name ASC"], page_token=token
        )
        for found in page:
            model = _model(client, found)
            if model.versions:
                yield model
        if not (token := page.token):
            return


def _model(client: "MlflowClient", found: "RegisteredModel") -> Model:
    aliases = {alias: int(version) for alias, version in dict(found.aliases).items()}
    return Model(
        name=found.name,
        champion=aliases.get(ALIAS),
        previous=aliases.get(PREVIOUS),
        challenger=aliases.get(CHALLENGER),
        versions=tuple(_versions(client, found.name)),
    )


def _versions(client: "MlflowClient", name: str) -> Iterator[Version]:
    quoted = name.replace("'", "''")
    token: str | None = None
    while True:
        page = client.search_model_versions(
            f"name = '{quoted}'",
            max_results=_PAGE,
            order_by=["version_number DESC"],
            page_token=token,
        )
        yield from (_version(each) for each in page if _STUDY in each.tags)
        if not (token := page.token):
            return


def _version(found: "ModelVersion") -> Version:
    tags: dict[str, str] = dict(found.tags)
    accuracy = _fraction(tags.get(_ACCURACY, ""))
    return Version(
        version=int(found.version),
        created_ms=int(found.creation_timestamp),
        status=found.status,
        study=tags[_STUDY],
        trial=tags.get("tuner.trial", ""),
        run_id=found.run_id or "",
        test_accuracy=accuracy,
        verdict=tags.get("tuner.verdict", ""),
        tags=tags,
        unreadable=(_ACCURACY,) if _ACCURACY in tags and accuracy is None else (),
    )


def _fraction(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if 0 <= value <= 1 else None
