"""The rows of many studies in outline, in as many queries for one study as for a thousand.

Optuna's storage reads one study at a time and every row whole, which takes it a hundredth of a
second for the smallest study.
"""

import json
import math
from collections import defaultdict
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from optuna.trial import TrialState
from sqlalchemy import ColumnElement, Connection, Select, String, and_, cast, select

from tuner.search.ranking import Training
from tuner.storage.tables import REPORTS, SLOT, STUDIES, TRIALS, USER_ATTRIBUTES, VALUES

_INFINITE = {"INF_POS": math.inf, "INF_NEG": -math.inf}
"""Values that Optuna keeps as their type alone."""


@dataclass(frozen=True)
class Outline:
    """A row of Optuna's, as far as counting, ranking and comparing look at it."""

    slot: int
    number: int
    state: TrialState
    value: float | None
    epochs: frozenset[int]
    """Those of which it has the objective."""

    @property
    def training(self) -> Training | None:
        """What ranking looks at; None unless it is completed."""
        if self.state is not TrialState.COMPLETE or self.value is None:
            return None
        return Training(self.slot, self.number, self.value)


def outlines(connection: Connection, names: Collection[str]) -> Mapping[str, list[Outline]]:
    """Every row that has a slot, by the name of its study."""
    epochs = _epochs(connection, names)
    own_slot = and_(USER_ATTRIBUTES.c.trial_id == TRIALS.c.trial_id, USER_ATTRIBUTES.c.key == SLOT)
    own_value = and_(VALUES.c.trial_id == TRIALS.c.trial_id, VALUES.c.objective == 0)
    statement = (
        _of_studies(
            names,
            STUDIES.c.study_name,
            TRIALS.c.trial_id,
            TRIALS.c.number,
            cast(TRIALS.c.state, String),
            USER_ATTRIBUTES.c.value_json,
            VALUES.c.value,
            cast(VALUES.c.value_type, String),
        )
        .join(USER_ATTRIBUTES, own_slot)
        .outerjoin(VALUES, own_value)
    )
    found = defaultdict[str, list[Outline]](list)
    for study, trial_id, number, state, slot, value, kind in connection.execute(statement):
        value = _INFINITE.get(kind, value)
        reported = frozenset(epochs.get(trial_id, ()))
        found[study].append(Outline(json.loads(slot), number, TrialState[state], value, reported))
    return found


def _epochs(connection: Connection, names: Collection[str]) -> Mapping[int, list[int]]:
    """By Optuna's number of the row."""
    statement = _of_studies(names, TRIALS.c.trial_id, REPORTS.c.step)
    statement = statement.join(REPORTS, REPORTS.c.trial_id == TRIALS.c.trial_id)
    found = defaultdict[int, list[int]](list)
    for trial_id, epoch in connection.execute(statement):
        found[trial_id].append(epoch)
    return found


def _of_studies(names: Collection[str], *columns: ColumnElement[Any]) -> Select[Any]:
    joined = select(*columns).join_from(STUDIES, TRIALS, STUDIES.c.study_id == TRIALS.c.study_id)
    return joined.where(STUDIES.c.study_name.in_(names))
