"""The history of a registered model: who made which version the champion, when and why.

Each act is one record, a tag of the registered model, written before the alias moves. So an act
that was killed half-way can be read back, and the same command finishes it.
"""

import socket
from typing import TYPE_CHECKING, Literal, get_args
from uuid import uuid4

from pydantic import ValidationError

from tuner.account import user
from tuner.clock import now_ms
from tuner.errors import ModelError, RefusedError, UsageError, encodable
from tuner.files import exclusive
from tuner.home import Home
from tuner.promotion.registry.champion import check_trusted
from tuner.promotion.registry.versions import (
    ALIAS,
    PREVIOUS,
    Alias,
    aliased_version,
    champion_version,
    check_kept,
    crown,
    is_missing,
)
from tuner.spec.section import Frozen
from tuner.tracking.mlflow.connection import connected
from tuner.tracking.settings import TrackingSettings

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities.model_registry import ModelVersion, RegisteredModel

_ACT = "tuner.act."
"""The beginning of the name of a record; the time and a random part follow."""
_LONGEST_REASON = 2000
"""MLflow's registry has room for 5,000 characters in a tag."""


class Act(Frozen, extra="ignore"):
    """One move of the alias `champion` or `challenger`."""

    at_ms: int
    alias: Alias = ALIAS
    kind: Literal["promote", "rollback"]
    version: int
    """The version that the alias names since."""
    before: int | None
    """The one before; None if there was none."""
    user: str
    host: str
    why: str

    def repeats(self, other: "Act") -> bool:
        """Whether it is the same move as another one, which was not completed."""
        return self._move == other._move

    @property
    def _move(self) -> tuple[object, ...]:
        return self.alias, self.kind, self.version, self.before


class PastAct(Act):
    """An act, and what became of it."""

    completed: bool
    """Whether the alias is known to have moved. False if the process was killed before."""


class History(Frozen):
    """The acts on a registered model."""

    acts: tuple[PastAct, ...]
    """The oldest first. Versions that tuner promoted before it kept a history have none."""
    unreadable: tuple[str, ...]
    """The names of the tags whose record was changed, not by tuner."""
    moved: tuple[Alias, ...]
    """The aliases that were moved since by hand or by another tool."""


def read_history(client: "MlflowClient", name: str) -> History:
    """Every act on a registered model.

    Raises:
        UsageError: there is no such model.
    """
    acts, unreadable = _acts(client, name)
    versions = {alias: aliased_version(client, name, alias) for alias in get_args(Alias)}
    now = {alias: int(found.version) for alias, found in versions.items() if found is not None}
    newest = {act.alias: act for act in acts}
    moved = tuple(
        alias for alias, act in newest.items() if now.get(alias) not in (act.version, act.before)
    )
    seen = {*now.items(), *((alias, newest[alias].version) for alias in moved)}
    told: list[PastAct] = []
    for act in reversed(acts):
        told.append(PastAct(**dict(act), completed=(act.alias, act.version) in seen))
        seen.discard((act.alias, act.version))
        if act.before is not None:  # somebody saw it under the alias
            seen.add((act.alias, act.before))
    return History(acts=tuple(told[::-1]), unreadable=tuple(unreadable), moved=moved)


def move_alias(
    client: "MlflowClient",
    version: "ModelVersion",
    kind: Literal["promote", "rollback"],
    why: str,
    alias: Alias = ALIAS,
) -> None:
    """Records the act, keeps the champion of before as `previous`, and moves the alias.

    The caller holds the promotion lock and has checked the version. Nothing is recorded if the
    alias names the version already, or if the same act was recorded and not completed.

    Raises:
        ModelError, RefusedError: see `versions.crown`.
    """
    now = aliased_version(client, version.name, alias)
    before = None if now is None else int(now.version)
    if before != int(version.version):
        acts, _ = _acts(client, version.name)
        act = Act(
            # Another machine's clock may be ahead: the order of the records is that of the acts.
            at_ms=max([now_ms(), *(each.at_ms + 1 for each in acts[-1:])]),
            alias=alias,
            kind=kind,
            version=int(version.version),
            before=before,
            user=user(),
            host=socket.gethostname(),
            why=encodable(why)[:_LONGEST_REASON],
        )
        if not any(act.repeats(last) for last in acts[-1:]):
            key = f"{_ACT}{act.at_ms:013d}.{uuid4().hex[:8]}"
            client.set_registered_model_tag(version.name, key, act.model_dump_json())
        if before is not None and alias == ALIAS:
            client.set_registered_model_alias(version.name, PREVIOUS, str(before))
    crown(client, version, alias)


def rollback(
    settings: TrackingSettings, name: str, home: Home, *, to: int | None = None, why: str = ""
) -> PastAct | None:
    """Makes an earlier version the champion again, without a test.

    Args:
        settings: the MLflow that has the registry.
        name: the registered model.
        home: the state folder, for the promotion lock and the study's record of the version.
        to: the version; by default the champion before this one. A rollback that was killed is
            finished first.
        why: the reason, for the record.

    Returns:
        The act; None if the version was the champion already.

    Raises:
        UsageError: there is no such model or version.
        RefusedError: nothing was promoted, or there was no champion before.
        ModelError: the version is not READY, was not registered by its study, or the registry
            returns another file.
    """
    with exclusive(home.root / "promotion.lock"), connected(settings) as client:
        _registered(client, name)
        now = champion_version(client, name)
        if now is None:
            raise RefusedError(f"{name}@{ALIAS}: nothing promoted yet")
        version = _target(client, now, to)
        if version.version == now.version:
            return None
        if version.status != "READY":
            raise ModelError(
                f"models:/{name}/{version.version}: must be READY, got {version.status}"
            )
        check_trusted(version, home)
        check_kept(client, version)
        move_alias(client, version, "rollback", why)
        return read_history(client, name).acts[-1]


def _target(client: "MlflowClient", now: "ModelVersion", to: int | None) -> "ModelVersion":
    """The version to roll back to: the stated one, that of a killed rollback, or the previous."""
    if to is not None:
        return _version(client, now.name, to)
    acts = [act for act in read_history(client, now.name).acts if act.alias == ALIAS]
    for last in acts[-1:]:
        if last.kind == "rollback" and not last.completed and last.before == int(now.version):
            return _version(client, now.name, last.version)
    previous = aliased_version(client, now.name, PREVIOUS)
    if previous is not None and previous.version != now.version:
        return previous
    # A promotion that was killed between the two aliases has moved `previous` already.
    reigns = [act.before for act in acts if act.completed and act.version == int(now.version)]
    if reigns and reigns[-1] is not None:
        return _version(client, now.name, reigns[-1])
    raise RefusedError(
        f"{now.name}@{PREVIOUS}: there was no champion before version {now.version}; state a "
        "version with --to"
    )


def _version(client: "MlflowClient", name: str, version: int) -> "ModelVersion":
    from mlflow.exceptions import MlflowException

    try:
        return client.get_model_version(name, str(version))
    except MlflowException as error:
        if not is_missing(error):
            raise
        raise UsageError(f"{name} has no version {version}") from error


def _acts(client: "MlflowClient", name: str) -> tuple[list[Act], list[str]]:
    """The recorded acts, the oldest first, and the names of the records that are damaged."""
    tags = _registered(client, name).tags
    acts: list[Act] = []
    damaged: list[str] = []
    for key in sorted(key for key in tags if key.startswith(_ACT)):
        try:
            acts.append(Act.model_validate_json(tags[key]))
        except ValidationError:
            damaged.append(key)
    return acts, damaged


def _registered(client: "MlflowClient", name: str) -> "RegisteredModel":
    from mlflow.exceptions import MlflowException

    try:
        return client.get_registered_model(name)
    except MlflowException as error:
        if not is_missing(error):
            raise
        raise UsageError(f"no registered model is called {name!r}") from error
