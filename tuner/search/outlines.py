"""Reads the most important columns of many studies' Optuna trials, in two queries.

Optuna's storage reads one study at a time, with every column. That takes 10 ms even for the
smallest study.
"""

import json
import math
from collections import defaultdict
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

from optuna.trial import TrialState
from sqlalchemy import ColumnElement, Connection, Select, String, and_, cast, select

from tuner.search.ranking import Training
from tuner.search.trials import RESULT, Measured
from tuner.storage.tables import (
    OPTUNA_REPORTS,
    OPTUNA_STUDIES,
    OPTUNA_TRIAL_ATTRIBUTES,
    OPTUNA_TRIALS,
    OPTUNA_VALUES,
    SLOT,
)

_INFINITE = {"INF_POS": math.inf, "INF_NEG": -math.inf}
"""Optuna stores infinite values as a type without a value."""
_STUDY, _TRIAL, _VALUE = OPTUNA_STUDIES.c, OPTUNA_TRIALS.c, OPTUNA_VALUES.c
_ATTRIBUTE, _REPORT = OPTUNA_TRIAL_ATTRIBUTES.c, OPTUNA_REPORTS.c


@dataclass(frozen=True)
class Outline:
    """The columns of an Optuna trial that counting, ranking and comparing need."""

    slot: int
    number: int
    state: TrialState
    value: float | None
    epochs: frozenset[int]
    """The epochs with a reported objective."""
    measured: Mapping[str, float] = field(default_factory=dict)
    """What else the trial reached, by metric; empty unless asked for."""

    @property
    def training(self) -> Training | None:
        """The input for ranking; None unless the trial is completed."""
        if self.state is not TrialState.COMPLETE or self.value is None:
            return None
        return Training(self.slot, self.number, self.value)


def outlines(
    connection: Connection, names: Collection[str], measured: Collection[str] = ()
) -> Mapping[str, list[Outline]]:
    """Returns the trials that have a slot, by the name of their study.

    Args:
        connection: a connection to the database.
        names: the studies.
        measured: those of which `Outline.measured` is wanted too, which costs a query.
    """
    epochs = _epochs(connection, names)
    results = _measured(connection, measured) if measured else {}
    own_slot = and_(_ATTRIBUTE.trial_id == _TRIAL.trial_id, _ATTRIBUTE.key == SLOT)
    own_value = and_(_VALUE.trial_id == _TRIAL.trial_id, _VALUE.objective == 0)
    statement = (
        _of_studies(
            names,
            _STUDY.study_name,
            _TRIAL.trial_id,
            _TRIAL.number,
            cast(_TRIAL.state, String),
            _ATTRIBUTE.value_json,
            _VALUE.value,
            cast(_VALUE.value_type, String),
        )
        .join(OPTUNA_TRIAL_ATTRIBUTES, own_slot)
        .outerjoin(OPTUNA_VALUES, own_value)
    )
    found = defaultdict[str, list[Outline]](list)
    for study, trial_id, number, state, slot, value, kind in connection.execute(statement):
        value = _INFINITE.get(kind, value)
        reported = frozenset(epochs.get(trial_id, ()))
        own = results.get(trial_id, {})
        found[study].append(
            Outline(json.loads(slot), number, TrialState[state], value, reported, own)
        )
    return found


def _epochs(connection: Connection, names: Collection[str]) -> Mapping[int, list[int]]:
    """Returns the reported epochs, by the `trial_id` of Optuna's row."""
    statement = _of_studies(names, _TRIAL.trial_id, _REPORT.step)
    statement = statement.join(OPTUNA_REPORTS, _REPORT.trial_id == _TRIAL.trial_id)
    found = defaultdict[int, list[int]](list)
    for trial_id, epoch in connection.execute(statement):
        found[trial_id].append(epoch)
    return found


def _measured(connection: Connection, names: Collection[str]) -> Mapping[int, Mapping[str, float]]:
    """Returns what trials reached beside their value, by the `trial_id` of Optuna's row."""
    statement = _of_studies(names, _TRIAL.trial_id, _ATTRIBUTE.value_json)
    own = and_(_ATTRIBUTE.trial_id == _TRIAL.trial_id, _ATTRIBUTE.key == RESULT)
    rows = connection.execute(statement.join(OPTUNA_TRIAL_ATTRIBUTES, own))
    return {
        trial_id: Measured.model_validate_json(text, extra="ignore").by_metric
        for trial_id, text in rows
    }


def _of_studies(names: Collection[str], *columns: ColumnElement[Any]) -> Select[Any]:
    own_study = _STUDY.study_id == _TRIAL.study_id
    joined = select(*columns).join_from(OPTUNA_STUDIES, OPTUNA_TRIALS, own_study)
    return joined.where(_STUDY.study_name.in_(names))
