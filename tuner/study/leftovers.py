"""Closes what a driver has left open, whether it died or leaves; in the caller's transaction."""

import json
from dataclasses import dataclass

from optuna.trial import TrialState
from sqlalchemy import Connection, column, select, table, update

from tuner.study.points import SLOT
from tuner.study.tables import attempts
from tuner.tracking.events import Outcome

_OUTCOMES: dict[str, Outcome] = {
    TrialState.COMPLETE.name: "completed",
    TrialState.PRUNED.name: "pruned",
    TrialState.FAIL.name: "failed",
}

_STUDIES = table("studies", column("study_id"), column("study_name"))
_TRIALS = table("trials", column("trial_id"), column("study_id"), column("state"))
_ATTRIBUTES = table(
    "trial_user_attributes", column("trial_id"), column("key"), column("value_json")
)
"""Optuna's own, as far as a row must be read in the transaction that closes its attempt."""


@dataclass(frozen=True)
class Closed:
    """An attempt that a dead driver had left open."""

    uid: str
    slot: int
    number: int
    outcome: Outcome
    """As its row was told; `interrupted` where it was not, and another attempt follows."""


def close_attempts(connection: Connection, study: str, driver: str, at_ms: int) -> None:
    """Closes a driver's open attempts as their rows were told, which frees the other slots."""
    left = select(attempts.c.uid, attempts.c.slot).where(
        attempts.c.study == study, attempts.c.driver == driver, attempts.c.outcome.is_(None)
    )
    for uid, slot in connection.execute(left).all():
        outcome = _OUTCOMES.get(_state(connection, study, slot), "interrupted")
        ended = update(attempts).where(attempts.c.uid == uid)
        connection.execute(ended.values(outcome=outcome, ended_ms=at_ms))


def closed_at(connection: Connection, study: str, driver: str, at_ms: int) -> list[Closed]:
    """What was closed of a driver's attempts at that time."""
    columns = (attempts.c.uid, attempts.c.slot, attempts.c.number, attempts.c.outcome)
    statement = select(*columns).where(
        attempts.c.study == study, attempts.c.driver == driver, attempts.c.ended_ms == at_ms
    )
    return [Closed(*row) for row in connection.execute(statement.order_by(attempts.c.slot))]


def _state(connection: Connection, study: str, slot: int) -> str:
    """The state of the slot's row, empty where it has none."""
    statement = (
        select(_TRIALS.c.state)
        .join(_STUDIES, _STUDIES.c.study_id == _TRIALS.c.study_id)
        .join(_ATTRIBUTES, _ATTRIBUTES.c.trial_id == _TRIALS.c.trial_id)
        .where(
            _STUDIES.c.study_name == study,
            _ATTRIBUTES.c.key == SLOT,
            _ATTRIBUTES.c.value_json == json.dumps(slot),
        )
    )
    return str(connection.execute(statement).scalar() or "")
