"""The logical trials: one Optuna row a slot, from its creation until it is told."""

from dataclasses import dataclass
from typing import Any

import optuna
from optuna.trial import FrozenTrial, Trial, TrialState, create_trial

from tuner.search import optuna_samplers, points
from tuner.search.importance import Importance, importance_of, shortcoming, varied
from tuner.search.optuna_rows import OptunaRows
from tuner.search.ranking import rank, trainings
from tuner.spec.search_space import ChoiceDomain, Domain, FloatDomain, Scalar
from tuner.spec.study_spec import StudySpec
from tuner.storage.attempts import OPTUNA_STATES, Claim
from tuner.storage.database import Database
from tuner.storage.tables import SLOT
from tuner.training.plan import EpochReport, Outcome, TrialResult

_IMPORTANCE = "importance"
"""The study's attribute that keeps what was last assessed, for readers that must be quick."""

LATELY_S = 1.0
"""How old the reports that drivers see of one another may be, besides the time to write them."""


@dataclass(frozen=True)
class OpenTrial:
    """A row in state RUNNING, held by the driver that claimed its slot."""

    trial: Trial
    params: dict[str, Scalar]
    """Every parameter of the trial, the fixed ones included."""
    reported: frozenset[int]
    """Epochs that an earlier attempt reported."""

    @property
    def number(self) -> int:
        """Optuna's number of the trial."""
        return int(self.trial.number)


class Trials:
    """The rows of one study.

    Its driver reads and changes them in memory; what changed is in the database when a
    trial was opened, told or handed back, and else when `keep_up` is called often enough.
    """

    def __init__(self, database: Database, spec: StudySpec, driver: str | None = None) -> None:
        """For a driver to change, or for others to read where `driver` is None."""
        self._rows = OptunaRows(database, spec.name, driver)
        self._spec = spec
        self._distributions = optuna_samplers.distributions(spec)
        self._pruner = optuna_samplers.pruner(spec)

    def all(self) -> list[FrozenTrial]:
        """Every row, by number, as the database has it now."""
        self._rows.refresh()
        return self.known()

    def known(self) -> list[FrozenTrial]:
        """Every row, by number; those of other drivers as they were lately. Asks no database."""
        return [row for row in self._rows.all() if SLOT in row.user_attrs]

    def by_slot(self) -> dict[int, FrozenTrial]:
        """Every row by its slot."""
        return {row.user_attrs[SLOT]: row for row in self.all()}

    def open(self, claim: Claim) -> OpenTrial:
        """The claimed slot's row: the one an earlier attempt left, or a new one.

        A row is made in one transaction with its slot, and its point is written in another.
        The sampler is asked for what neither the study file nor the line of waiting points
        states.
        """
        row = self.by_slot().get(claim.slot) if claim.predecessor else None
        self._rows.refresh(LATELY_S)
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
        """Takes an epoch's objective; True when the pruner wants the trial to end.

        It compares the trial with those of other points, never with its own point's.
        """
        value = report.metrics[self._spec.objective.metric]
        if report.epoch not in opened.reported:
            opened.trial.report(value, step=report.epoch)
        if report.epoch < max(opened.reported, default=0):
            return False  # pruners look at the last epoch in the row, an earlier attempt's
        self._rows.refresh(LATELY_S)
        with self._rows.hiding(self._replicates(opened)):
            return bool(opened.trial.should_prune())

    def _replicates(self, opened: OpenTrial) -> list[int]:
        """The rows of the other trainings of the trial's point."""
        if self._spec.seeds == 1:
            return []
        own = self._rows.get_trial(opened.trial._trial_id)
        point = points.point_of(self._spec, own.user_attrs[SLOT])
        return [
            row._trial_id
            for row in self.known()
            if points.point_of(self._spec, row.user_attrs[SLOT]) == point and row is not own
        ]

    def keep_up(self) -> None:
        """Writes reports that have waited for a while, so that others see them."""
        self._rows.write(LATELY_S)

    def hand_back(self, opened: OpenTrial) -> None:
        """Leaves the row, RUNNING, to the next attempt."""
        self._rows.release(opened.trial._trial_id)

    def tell(self, opened: OpenTrial, result: TrialResult, code: str = "") -> None:
        """Ends the row with everything that promotion and reports read later.

        `code` is the digest of the user's code that trained it, all its epochs.
        """
        facts = _facts(result, self._spec) | ({"code": code} if code else {})
        for name, value in facts.items():
            opened.trial.set_user_attr(name, value)
        completed = result.state is Outcome.COMPLETED
        value = result.value(self._spec.objective) if completed else None
        self._study().tell(opened.trial, value, state=OPTUNA_STATES[result.state])

    def fail(self, opened: OpenTrial, reason: str) -> None:
        """Ends the row as failed."""
        opened.trial.set_user_attr("error", reason)
        self._study().tell(opened.trial, state=TrialState.FAIL)

    def importance(self) -> Importance:
        """How much each parameter matters as it was last assessed; empty before, and too early."""
        if self.importance_lacks():
            return {}
        told = varied(self._complete_points())
        assessed: Importance = self._study().user_attrs.get(_IMPORTANCE, {})
        return {name: share for name, share in assessed.items() if name in told}

    def importance_lacks(self) -> str:
        """What is missing before importance can be told, in words; empty when nothing is."""
        self._rows.refresh(LATELY_S)
        return shortcoming(self._spec.objective.direction, self._complete_points())

    def assess_importance(self) -> Importance:
        """How much each parameter matters now, kept with the study; empty while it is too early."""
        if self.importance_lacks():
            return {}
        found = importance_of(self._spec.objective.direction, self._complete_points())
        self._study().set_user_attr(_IMPORTANCE, found)
        return found

    def _complete_points(self) -> list[FrozenTrial]:
        """A trial for each point whose trainings have all completed, with their mean."""
        rows = {row.number: row for row in self.known()}
        complete = (
            (rows[point.trainings[0].number], point.mean)
            for point in rank(self._spec, trainings(rows.values()))
            if len(point.trainings) == self._spec.seeds
        )
        return [
            create_trial(params=row.params, distributions=row.distributions, value=mean)
            for row, mean in complete
        ]

    def _study(self, sampler: optuna.samplers.BaseSampler | None = None) -> optuna.Study:
        return optuna.load_study(
            study_name=self._spec.name, storage=self._rows, sampler=sampler, pruner=self._pruner
        )

    def _create(self, claim: Claim) -> int:
        stated = self._stated_point(claim)
        template = create_trial(
            state=TrialState.RUNNING,
            params=stated,
            distributions={name: self._distributions[name] for name in stated},
            user_attrs={SLOT: claim.slot, "seed": points.trial_seed(self._spec, claim.slot)},
        )
        return self._rows.create_new_trial(self._rows.study_id, template)

    def _stated_point(self, claim: Claim) -> dict[str, Scalar]:
        if points.leads(self._spec, claim.slot):
            begun = {row.user_attrs[SLOT]: row.params for row in self.known()}
            return claim.queued or points.stated_point(self._spec, claim.slot, begun)
        return self.by_slot()[points.leader(self._spec, claim.slot)].params


def _suggest(trial: Trial, name: str, domain: Domain) -> None:
    """Has the row hold the parameter."""
    if isinstance(domain, ChoiceDomain):
        trial.suggest_categorical(name, domain.choices)
    elif isinstance(domain, FloatDomain):
        trial.suggest_float(name, domain.low, domain.last, step=domain.step, log=domain.log)
    else:
        trial.suggest_int(name, domain.low, domain.last, step=domain.step, log=domain.log)


def _facts(result: TrialResult, spec: StudySpec) -> dict[str, Any]:
    """What a row keeps of its result, small enough for a database."""
    facts: dict[str, Any] = {
        "epochs": len(result.epochs),
        "train_time_s": result.timings.train_s,
        "total_time_s": result.timings.total_s,
    }
    if result.best is not None:
        facts |= {"best_epoch": result.best_epoch, "value": result.value(spec.objective)}
        facts |= {"best_metrics": result.best.metrics}
    if result.model is not None:
        facts |= {"model_sha256": result.model.sha256, "parameters": result.model.parameters}
    if result.unpromotable:
        facts |= {"unpromotable": result.unpromotable}
    if result.remarks:
        facts |= {"remarks": list(result.remarks)}
    if result.error is not None:
        facts |= {"error": f"{result.error.type}: {result.error.message}"}
    return facts
