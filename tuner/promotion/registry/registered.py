"""What the registry has: the models that tuner registered, their versions and aliases."""

from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import TYPE_CHECKING, Any

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
    search = partial(client.search_registered_models, order_by=["name ASC"])
    models = (_model(client, found) for found in _every(search))
    yield from (model for model in models if model.versions)


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
    newest_first = ["version_number DESC"]
    search = partial(client.search_model_versions, f"name = '{quoted}'", order_by=newest_first)
    yield from (_version(each) for each in _every(search) if _STUDY in each.tags)


def _every(search: Callable[..., Any]) -> Iterable[Any]:
    """What a search finds, over all pages."""
    from mlflow.utils import get_results_from_paginated_fn

    def page(most: int, token: str | None) -> Any:
        return search(max_results=most, page_token=token)

    return get_results_from_paginated_fn(page, _PAGE)  # type: ignore[no-any-return]


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
