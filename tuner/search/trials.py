"""The trials of a study: one Optuna trial per slot, from its creation to its end."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import optuna
from optuna.trial import FrozenTrial, Trial, TrialState, create_trial
from pydantic import Field

from tuner.search import optuna_samplers, points
from tuner.search.importance import Importance, importance_of, why_unknown
from tuner.search.optuna_rows import OptunaRows
from tuner.search.ranking import rank, trainings
from tuner.spec.objective import Objective
from tuner.spec.search_space import ChoiceDomain, Domain, FloatDomain, Scalar
from tuner.spec.section import Frozen
from tuner.spec.study_spec import StudySpec
from tuner.storage.attempts import OPTUNA_STATES, ClaimedSlot
from tuner.storage.database import Database
from tuner.storage.tables import SLOT
from tuner.training.plan import ConfidentError, EpochReport, Outcome, TrainerInfo, TrialResult

_IMPORTANCE = "importance"
"""The study attribute that stores the importance, and of how many points it is."""

RESULT = "result"
"""The attribute of an Optuna trial that holds its `StoredResult`."""

_ERRORS = "confident_errors"
"""The attribute of an Optuna trial that holds its confident errors. A race looks at the results of
all its trials after each one, and seldom at these, which may be thousands."""

REFRESH_S = 1.0
"""Drivers read one another's reports, and write their own, at this interval."""


class Measured(Frozen):
    """What an ended trial reached, apart from its objective. This part is quick to read."""

    train_time_s: float = 0.0
    best_metrics: dict[str, float] = Field(default_factory=dict)

    @property
    def by_metric(self) -> dict[str, float]:
        """The metrics of the best epoch, and the training's time."""
        return {**self.best_metrics, "train_time_s": self.train_time_s}


class StoredResult(Measured):
    """The part of an ended trial's result that is stored with its Optuna trial.

    It is one attribute, so that a retry replaces what an attempt before it has left.
    """

    epochs: int | None = None
    total_time_s: float | None = None
    best_epoch: int | None = None
    value: float | None = None
    """The objective at the best epoch."""
    weights_sha256: str = ""
    """Digest of the best epoch's weights; empty if it was not recorded."""
    model_sha256: str = ""
    """Empty if no model was kept."""
    parameters: int | None = None
    """The number of weights of the kept model."""
    unpromotable: str = ""
    remarks: tuple[str, ...] = ()
    error: str = ""
    code: str = ""
    """Digest of the user's code that trained all epochs; empty if there is none."""
    trainer: TrainerInfo | None = None
    """The trainer of the last attempt; None in results of earlier versions."""

    @classmethod
    def of(
        cls, result: TrialResult, objective: Objective, code: str, trainer: TrainerInfo | None
    ) -> Self:
        """Takes what is stored from a result."""
        best, model, error = result.best, result.model, result.error
        return cls(
            epochs=len(result.epochs),
            train_time_s=result.timings.train_s,
            total_time_s=result.timings.total_s,
            best_epoch=result.best_epoch,
            value=result.value(objective),
            best_metrics={} if best is None else best.metrics,
            weights_sha256=result.weights_sha256,
            model_sha256="" if model is None else model.sha256,
            parameters=None if model is None else model.parameters,
            unpromotable=result.unpromotable,
            remarks=result.remarks,
            error="" if error is None else f"{error.type}: {error.message}",
            code=code,
            trainer=trainer,
        )


def stored_result(row: FrozenTrial) -> StoredResult:
    """Returns what was stored when the trial ended; the default values before that.

    Earlier versions of tuner stored each field as an attribute of its own.
    """
    return StoredResult.model_validate(_stored(row), extra="ignore")  # newer ones may store more


def stored_measures(row: FrozenTrial) -> Measured:
    """Returns the part of `stored_result` that a race needs."""
    return Measured.model_validate(_stored(row), extra="ignore")


def stored_errors(row: FrozenTrial) -> tuple[ConfidentError, ...] | None:
    """Returns the confident errors of a completed training of a race; None if it stored none."""
    if not row.state.is_finished():
        return None
    earlier = _stored(row).get(_ERRORS)  # earlier versions stored them with the result
    errors = row.user_attrs.get(_ERRORS, earlier)
    return None if errors is None else tuple(ConfidentError(*each) for each in errors)


def _stored(row: FrozenTrial) -> Mapping[str, Any]:
    if not row.state.is_finished():
        return {}  # a driver may have died before it ended the trial
    stored: Mapping[str, Any] = row.user_attrs.get(RESULT, row.user_attrs)
    return stored


@dataclass(frozen=True)
class OpenTrial:
    """A running trial, held by the driver that claimed its slot."""

    trial: Trial
    params: dict[str, Scalar]
    """Every parameter of the trial, including the fixed ones."""
    reported: frozenset[int]
    """The epochs that earlier attempts reported."""

    @property
    def number(self) -> int:
        """Optuna's number of the trial."""
        return int(self.trial.number)


class Trials:
    """The trials of one study.

    A driver reads and changes them in memory. Changes are written when a trial is opened, ended
    or handed back, and by `flush`.
    """

    def __init__(self, database: Database, spec: StudySpec) -> None:
        """Opens the trials.

        Raises:
            RefusedError: the study was deleted.
        """
        self._rows = OptunaRows(database, spec.name)
        self._spec = spec
        self._distributions = optuna_samplers.distributions(spec)
        self._pruner = optuna_samplers.pruner(spec)

    def all(self) -> list[FrozenTrial]:
        """Reads the database and returns every trial, by number."""
        self._rows.refresh()
        return self.cached()

    def cached(self) -> list[FrozenTrial]:
        """Returns every trial in memory, by number. Does not read the database."""
        return [row for row in self._rows.all() if SLOT in row.user_attrs]

    def by_slot(self) -> dict[int, FrozenTrial]:
        """Reads the database and returns every trial, by its slot."""
        return {row.user_attrs[SLOT]: row for row in self.all()}

    def open(self, claim: ClaimedSlot) -> OpenTrial:
        """Returns the claimed slot's trial: that of the earlier attempts, or a new one.

        The sampler chooses the parameters that neither the study file nor the queued
        configuration states. A new trial is written with its slot and the stated parameters,
        then each sampled parameter.
        """
        row = self.by_slot().get(claim.slot) if claim.predecessor else None
        self._rows.refresh(REFRESH_S)
        trial_id = self._create(claim) if row is None else row._trial_id
        study = self._study(
            optuna_samplers.sampler(self._spec, points.sampler_seed(self._spec, claim.slot))
        )
        trial = Trial(study, trial_id)
        for name, domain in self._spec.domains.items():
            _suggest(trial, name, domain)
        self._rows.write()
        params = self._rows.get_trial(trial_id).params
        known = frozenset() if row is None else frozenset(row.intermediate_values)
        return OpenTrial(trial, {**self._spec.fixed, **params}, known)

    def report(self, opened: OpenTrial, report: EpochReport) -> bool:
        """Stores an epoch's objective. Returns whether the pruner wants to end the trial.

        The pruner compares the trial only with trials of other points.
        """
        value = report.metrics[self._spec.objective.metric]
        if report.epoch not in opened.reported:
            opened.trial.report(value, step=report.epoch)
        if report.epoch < max(opened.reported, default=0):
            return False  # pruners use the last epoch, which an earlier attempt reported
        self._rows.refresh(REFRESH_S)
        with self._rows.hiding(self._replicates(opened)):
            return bool(opened.trial.should_prune())

    def _replicates(self, opened: OpenTrial) -> list[int]:
        """The ids of the other trials of the same point."""
        if self._spec.replicates == 1:
            return []
        own = self._rows.get_trial(opened.trial._trial_id)
        point = points.point_of(self._spec, own.user_attrs[SLOT])
        return [
            row._trial_id
            for row in self.cached()
            if points.point_of(self._spec, row.user_attrs[SLOT]) == point and row is not own
        ]

    def flush(self) -> None:
        """Writes reports that are older than `REFRESH_S`, so that other drivers see them."""
        self._rows.write(REFRESH_S)

    def hand_back(self, opened: OpenTrial) -> None:
        """Writes the trial and releases it, still running, for the next attempt."""
        self._rows.release(opened.trial._trial_id)

    def tell(
        self,
        opened: OpenTrial,
        result: TrialResult,
        code: str = "",
        trainer: TrainerInfo | None = None,
    ) -> None:
        """Ends the trial, with the part of its result that promotion and reports need.

        Args:
            opened: the trial.
            result: its result.
            code: digest of the user's code that trained all its epochs; empty if there is none.
            trainer: the trainer that ended it.
        """
        self._store(opened, StoredResult.of(result, self._spec.objective, code, trainer))
        if self._spec.race is not None:
            opened.trial.set_user_attr(_ERRORS, result.confident_errors)
        completed = result.state is Outcome.COMPLETED
        value = result.value(self._spec.objective) if completed else None
        self._study().tell(opened.trial, value, state=OPTUNA_STATES[result.state])

    def fail(self, opened: OpenTrial, reason: str) -> None:
        """Ends the trial as failed."""
        self._store(opened, StoredResult(error=reason))
        self._study().tell(opened.trial, state=TrialState.FAIL)

    def _store(self, opened: OpenTrial, result: StoredResult) -> None:
        stored = result.model_dump(mode="json", exclude_defaults=True)
        opened.trial.set_user_attr(RESULT, stored)

    def importance(self) -> Importance:
        """Returns the importance; empty if `why_no_importance` gives a reason.

        Computes it, unless the stored one is of as many points as there are now.
        """
        if self.why_no_importance():
            return {}
        points, stored = self._complete_points(), self._study().user_attrs.get(_IMPORTANCE, {})
        if stored.get("points") == len(points):
            shares: Importance = stored["shares"]
            return shares
        return importance_of(self._spec.objective.direction, points)

    def why_no_importance(self) -> str:
        """Returns why importance is not known, as text; empty if it can be computed."""
        self._rows.refresh(REFRESH_S)
        return why_unknown(self._spec.objective.direction, self._complete_points())

    def store_importance(self) -> Importance:
        """Stores the importance for quick readers, and returns it."""
        if shares := self.importance():
            stored = {"points": len(self._complete_points()), "shares": shares}
            self._study().set_user_attr(_IMPORTANCE, stored)
        return shares

    def _complete_points(self) -> list[FrozenTrial]:
        """Returns a trial for each point whose trainings have all completed, with their mean."""
        rows = {row.number: row for row in self.cached()}
        complete = (
            (rows[each.trainings[0].number], each.mean)
            for each in rank(self._spec, trainings(rows.values()))
            if len(each.trainings) == len(points.slots_of(self._spec, each.point))
        )
        return [
            create_trial(params=row.params, distributions=row.distributions, value=mean)
            for row, mean in complete
        ]

    def _study(self, sampler: optuna.samplers.BaseSampler | None = None) -> optuna.Study:
        return optuna.load_study(
            study_name=self._spec.name, storage=self._rows, sampler=sampler, pruner=self._pruner
        )

    def _create(self, claim: ClaimedSlot) -> int:
        stated = self._stated_point(claim)
        template = create_trial(
            state=TrialState.RUNNING,
            params=stated,
            distributions={name: self._distributions[name] for name in stated},
            user_attrs={SLOT: claim.slot, "seed": points.trial_seed(self._spec, claim.slot)},
        )
        return self._rows.create_new_trial(self._rows.study_id, template)

    def _stated_point(self, claim: ClaimedSlot) -> dict[str, Scalar]:
        if points.leads(self._spec, claim.slot):
            begun = {row.user_attrs[SLOT]: row.params for row in self.cached()}
            return claim.queued or points.stated_point(self._spec, claim.slot, begun)
        return self.by_slot()[points.leader(self._spec, claim.slot)].params


def _suggest(trial: Trial, name: str, domain: Domain) -> None:
    """Adds the parameter to the trial. The sampler chooses its value if it has none."""
    if isinstance(domain, ChoiceDomain):
        trial.suggest_categorical(name, domain.choices)
    elif isinstance(domain, FloatDomain):
        trial.suggest_float(name, domain.low, domain.last, step=domain.step, log=domain.log)
    else:
        trial.suggest_int(name, domain.low, domain.last, step=domain.step, log=domain.log)
