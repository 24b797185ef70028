"""The driver's loop: claims slots, hands plans to trainers, reports epochs, and ends trials.

The end of an attempt is written in a fixed order: Optuna's row, the spool, the ledger. A driver
that dies in between leaves an open attempt, and `recovery` finishes what the row and the spool
already say.
"""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from tuner.driver.orders import Control, Orders
from tuner.driver.plans import Planner
from tuner.errors import SupersededError, UnavailableError
from tuner.recording.journal import Journal
from tuner.recording.shipping import DriverShipping
from tuner.recovery.retention import BestModels, remove_checkpoints
from tuner.recovery.takeover import PeerDrivers
from tuner.search import points
from tuner.search.race_trials import RaceValues, planned
from tuner.search.trials import OpenTrial, Trials
from tuner.storage.attempts import ClaimedSlot, Ledger
from tuner.storage.studies import DesiredState
from tuner.study.driver_events import (
    EpochDone,
    Notify,
    SetupStep,
    TrialBegan,
    TrialDone,
    TrialHandedBack,
)
from tuner.study.summary import Standing, StudySummary, ended_summary, standing_of, summarise
from tuner.training.plan import (
    EpochEnded,
    EpochReport,
    Outcome,
    TrainerInfo,
    TrialPlan,
    TrialResult,
)
from tuner.words import command, count
from tuner.workers.pool import (
    Finished,
    GivenUp,
    Lost,
    Reported,
    TrainerPool,
    TrainerReady,
)

_ROUND_S = 0.5
"""How long the driver waits for an event of a trainer before it begins another round."""


@dataclass
class _Active:
    """An attempt that a trainer works on."""

    claim: ClaimedSlot
    opened: OpenTrial
    plan: TrialPlan
    trainer: TrainerInfo | None = None
    started: float = field(default_factory=time.perf_counter)

    heard: float = field(default_factory=time.monotonic)
    """When the trainer last reported an epoch."""

    @property
    def seconds(self) -> float:
        return time.perf_counter() - self.started


class Driver:
    """Runs the free slots of one study on one pool of trainers."""

    def __init__(
        self,
        *,
        planner: Planner,
        trials: Trials,
        ledger: Ledger,
        pool: TrainerPool,
        journal: Journal,
        peers: PeerDrivers,
        control: Control,
        shipping: DriverShipping | None,
        notify: Notify,
        epoch_limit_s: float = math.inf,
        stays: bool = True,
    ) -> None:
        """Composes a driver; the caller owns the parts and closes them.

        Args:
            planner: makes the plans.
            trials: Optuna's rows.
            ledger: claims slots.
            pool: trains.
            journal: writes the spools.
            peers: takes over other drivers that have died.
            control: says whether to run, pause or stop, and the budget.
            shipping: ships the spools; None when nothing is shipped.
            notify: receives every progress event.
            epoch_limit_s: a trainer that reports no epoch for this many seconds is killed.
            stays: whether a driver with nothing to do waits for the attempts of other drivers,
                which may die or hand them back, and for the end of a pause.
        """
        self._planner = planner
        self._spec = planner.spec
        self._trials = trials
        self._ledger = ledger
        self._pool = pool
        self._journal = journal
        self._peers = peers
        self._control = control
        self._shipping = shipping
        self._notify = notify
        self._epoch_limit_s = epoch_limit_s
        self._stays = stays
        self._values = RaceValues(self._spec)
        self._models = BestModels(planner.home, self._spec, ledger, journal, trials.all())
        self._active: dict[tuple[int, int], _Active] = {}
        self._listened = 0.0
        self._remarks: set[str] = set()
        self._code = planner.code
        self._orders = control.latest

    def run(self) -> StudySummary:
        """Trains until no slot is left, or until the orders say stop.

        Attempts that are in progress at the end are handed back. During a pause they go on, and
        no other begins. A round takes about half a second, longer while the database is away.

        Raises:
            SupersededError: other drivers took this one over.
            UsageError: other code than this driver's was accepted for the study.
            UnavailableError: MLflow turns every run down until a person has repaired something, or
                a folder of an attempt cannot be made.
            RefusedError: the study was deleted meanwhile.
        """
        self._listened = time.monotonic()
        try:
            while (orders := self._control.poll()).state is not DesiredState.STOP:
                self._follow(orders)
                if self._shipping is not None:
                    self._shipping.supervise()
                self._peers.take_over_dead()
                if orders.state is DesiredState.RUN:
                    self._fill()
                if self._is_over(orders):
                    break
                self._hear()
                self._kill_hung()
                self._trials.flush()
        except SupersededError:
            self._abandon("others took it over")
            raise
        finally:
            self._hand_back("the driver stopped")
        self._models.consider(self._trials.all())  # others' trials may have ended since
        self._models.leave()
        summary = self.summary()
        self._journal.study_progressed(summary, summary.trials)
        return summary

    def summary(self) -> StudySummary:
        """The study's present state, with the trials of all its drivers."""
        return summarise(self._spec, self._trials, self._ledger)

    def _follow(self, orders: Orders) -> None:
        """Adopts the budget, and says when a pause begins or ends."""
        if (orders.trials, orders.race) != (self._spec.trials, self._spec.race):
            budget = {"trials": orders.trials, "race": orders.race}
            self._spec = self._spec.model_copy(update=budget)
        before, self._orders = self._orders, orders
        if orders.state == before.state:
            return
        if orders.state is DesiredState.PAUSE:
            self._say(f"paused: no trial begins until: {command('resume', self._spec.name)}")
        else:
            self._say("resumed")

    def _is_over(self, orders: Orders) -> bool:
        """Whether this driver has nothing more to do."""
        if self._active:
            return False
        return self._nothing_left() or (orders.state is DesiredState.PAUSE and not self._stays)

    def _nothing_left(self) -> bool:
        # In this order: a slot that is handed back between the two queries counts as free.
        waits = self._stays or self._spec.race is not None  # another block may follow soon
        if waits and self._ledger.open_attempts():
            return False
        return not self._ledger.has_free(self._spec.slots, self._is_planned())

    def _is_planned(self) -> Callable[[int], bool]:
        return planned(self._spec, lambda: self._values.of(self._trials.all())).__contains__

    def _fill(self) -> None:
        while self._pool.idle and (claim := self._claim()):
            self._begin(claim)

    def _claim(self) -> ClaimedSlot | None:
        """Claims a slot. Further seeds of a point wait until its first slot has all parameters."""
        opened = self._trials.by_slot() if self._spec.replicates > 1 else {}
        known = {
            slot for slot, row in opened.items() if row.params.keys() >= self._spec.domains.keys()
        }
        return self._ledger.claim(
            self._spec.slots,
            ready=lambda slot: (
                points.leads(self._spec, slot) or points.leader(self._spec, slot) in known
            ),
            takes_queued=lambda slot: points.takes_queued(self._spec, slot),
            planned=self._is_planned(),
        )

    def _begin(self, claim: ClaimedSlot) -> None:
        # The folder comes first: `recovery` sees by it that the attempt is of this home.
        folder = self._planner.home.attempt(self._spec.name, claim.slot, claim.number)
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UnavailableError(f"{folder}: cannot be made: {error.strerror}") from error
        opened = self._trials.open(claim)
        plan = self._planner.plan(claim.slot, claim.number, opened.params)
        active = self._active[plan.key] = _Active(claim, opened, plan)
        active.trainer = trainer = self._pool.submit(plan)
        self._journal.attempt_started(
            uid=claim.uid,
            number=opened.number,
            plan=plan,
            trainer=trainer,
            source=self._planner.described.source,
            predecessor=claim.predecessor,
        )
        self._notify(
            TrialBegan(opened.number, claim.number, opened.params, trainer.device, plan.epochs)
        )

    def _hear(self) -> None:
        match self._pool.next_event(_ROUND_S):
            case Reported(plan=plan) | Finished(plan=plan) | Lost(plan=plan) if (
                plan.key not in self._active
            ):
                pass  # of a plan that this driver has given up
            case Reported(plan=plan, event=event):
                self._journal.reported(plan, event)
                if isinstance(event, EpochEnded):
                    self._report(self._active[plan.key], event.report)
            case Finished(plan=plan, result=result):
                self._finish(self._active.pop(plan.key), result)
            case Lost(plan=plan, reason=reason):
                self._lose(self._active.pop(plan.key), reason)
            case TrainerReady(trainer=trainer) if trainer.device != trainer.assigned:
                self._say(_without_its_gpu(trainer))
            case GivenUp(reason=reason):
                self._say(f"continuing with {count(self._pool.size, 'trainer')}: {reason}")
            case TrainerReady() | None:
                pass

    def _kill_hung(self) -> None:
        """Kills trainers that hang. The pool then reports `Lost`, and another attempt follows.

        Time in which the driver read no events, for example because the database was away, does
        not count.
        """
        now = time.monotonic()
        deaf_s, self._listened = max(0.0, now - self._listened - _ROUND_S), now
        for active in self._active.values():
            active.heard += deaf_s
            if now - active.heard > self._epoch_limit_s:
                limit = f"{self._epoch_limit_s:g} s"
                self._pool.kill(active.plan, f"no epoch came to an end within {limit}")

    def _remark(self, text: str) -> None:
        """Says a remark once, however many trials it applies to."""
        if text not in self._remarks:
            self._remarks.add(text)
            self._say(f"{self._spec.model}: {text}")

    def _report(self, active: _Active, report: EpochReport) -> None:
        active.heard = time.monotonic()
        self._notify(
            EpochDone(
                active.opened.number,
                report.epoch,
                active.plan.epochs,
                report.metrics,
                report.train_s + report.validation_s,
            )
        )
        if self._trials.report(active.opened, report) and report.epoch < active.plan.epochs:
            self._pool.prune(active.plan)
        else:
            self._pool.proceed(active.plan, report.epoch)

    def _finish(self, active: _Active, result: TrialResult) -> None:
        for remark in result.remarks:
            self._remark(remark)
        self._trials.tell(active.opened, result, self._code, active.trainer)
        self._end(active, result.state, result)
        if result.state is Outcome.COMPLETED:
            self._models.consider(self._trials.cached())
            self._models.attempt_ended(active.plan.folder)
        standing = self._progressed()
        self._notify(
            TrialDone(
                number=active.opened.number,
                state=result.state,
                value=result.value(self._spec.objective),
                best_epoch=result.best_epoch,
                seconds=result.timings.total_s,
                reason=_first_line(f"{result.error.type}: {result.error.message}")
                if result.error
                else "",
                best=standing.best,
                slots=standing.slots,
            )
        )

    def _lose(self, active: _Active, reason: str) -> None:
        """Hands back an attempt whose trainer died, or fails the trial after the last retry."""
        earlier = [
            attempt
            for attempt in self._ledger.attempts()
            if attempt.slot == active.claim.slot and attempt.outcome is Outcome.LOST
        ]
        if len(earlier) < self._spec.max_retries:
            self._trials.hand_back(active.opened)
            self._end(active, Outcome.LOST, None, reason)
            self._notify(TrialHandedBack(active.opened.number, _first_line(reason)))
            return
        told = f"its trainer died in each of {len(earlier) + 1} attempts: {reason}"
        self._trials.fail(active.opened, told)
        self._end(active, Outcome.FAILED, None, told)
        standing = self._progressed()
        self._notify(
            TrialDone(
                number=active.opened.number,
                state=Outcome.FAILED,
                value=None,
                best_epoch=None,
                seconds=active.seconds,
                reason=_first_line(told),
                best=standing.best,
                slots=standing.slots,
            )
        )

    def _hand_back(self, reason: str) -> None:
        # The spools come first: they can be written without a database.
        active, self._active = list(self._active.values()), {}
        for each in active:
            self._journal.attempt_ended(each.plan.folder, Outcome.INTERRUPTED, None, reason)
        for each in active:
            self._trials.hand_back(each.opened)
            self._ledger.close(each.claim.uid, Outcome.INTERRUPTED)
            self._notify(TrialHandedBack(each.opened.number, reason))

    def _abandon(self, reason: str) -> None:
        """Ends the spools alone: other drivers own the rows and have closed the attempts."""
        for active in self._active.values():
            self._pool.kill(active.plan, reason)
            self._journal.attempt_ended(active.plan.folder, Outcome.INTERRUPTED, None, reason)
        self._active.clear()

    def _end(
        self, active: _Active, outcome: Outcome, result: TrialResult | None, reason: str = ""
    ) -> None:
        plan = active.plan
        self._journal.attempt_ended(plan.folder, outcome, result, reason)
        self._ledger.close(active.claim.uid, outcome)
        if outcome is not Outcome.COMPLETED:
            self._models.attempt_ended(plan.folder)
        if not outcome.hands_back:
            remove_checkpoints(self._planner.home, plan.study, plan.slot, until=plan.attempt)

    def _progressed(self) -> Standing:
        """Records the trials that have ended since; `run` records all of them at its end."""
        rows = self._trials.cached()
        standing = standing_of(self._spec, rows, self._ledger.open_attempts())
        ended = (row for row in rows if row.state.is_finished())
        news = [
            ended_summary(self._spec, row) for row in ended if not self._journal.knows(row.number)
        ]
        self._journal.study_progressed(standing, news)
        return standing

    def _say(self, text: str) -> None:
        self._notify(SetupStep(text))


def _without_its_gpu(trainer: TrainerInfo) -> str:
    extra = "cuda" if trainer.backend == "tensorflow" else f"{trainer.backend}-cuda"
    return (
        f"{trainer.assigned}: {trainer.backend} found no GPU there and trains on {trainer.device}; "
        f"pip install 'tuner[{extra}]' brings what it needs"
    )


def _first_line(text: str) -> str:
    return text.strip().splitlines()[0] if text.strip() else ""
