"""The training loop: trains a plan to its result, on any engine."""

import math
import re
import resource
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from tuner.clock import now_ms
from tuner.datasets.store import arrays_digest
from tuner.errors import ModelError, user_error_message
from tuner.models.contract import check_probabilities, gist
from tuner.models.model_file import sha256_of
from tuner.training import scores
from tuner.training.checkpoint import Checkpoint, Pace
from tuner.training.data import TrainingData
from tuner.training.engines.base import Engine, Session, TrainedEpoch
from tuner.training.plan import (
    CHECKPOINT,
    MODEL,
    ConfidentError,
    EpochReport,
    Evaluation,
    KeptModel,
    Outcome,
    Precision,
    Timings,
    TrialError,
    TrialPlan,
    TrialResult,
)
from tuner.training.timing import EpochTimes

_PROBE_SHARE, _PROBE_STEPS, _PROBE_S = 0.025, 8, 0.05


class Listener(Protocol):
    """Receives a trial's epochs while it trains, and may end it early."""

    def epoch_ended(self, report: EpochReport) -> None:
        """Receives each epoch once, in order."""
        ...

    def stops_after(self, report: EpochReport) -> bool:
        """Whether the trial must stop after this epoch; waits briefly for the driver's decision."""
        ...

    def pruned(self) -> bool:
        """Whether the driver has decided late to stop the trial.

        The epoch in progress is then left out.
        """
        ...


class DivergedError(Exception):
    """A metric is no longer a finite number."""


def train(
    plan: TrialPlan, load: Callable[[TrialPlan], TrainingData], engine: Engine, listener: Listener
) -> TrialResult:
    """Trains one trial to its end.

    An error in the trial, also in the user's own code, gives a failed result with the traceback,
    never an exception.
    """
    progress = _Progress(plan, engine, listener)
    try:
        try:
            state = progress.run(load)
        finally:
            progress.keep_best()
        if state is Outcome.COMPLETED:
            progress.check_file()
    except Exception as error:  # noqa: BLE001 - the trial's failure is its result
        return progress.result(Outcome.FAILED, error)
    return progress.result(state)


def epoch_times(
    plans: Sequence[TrialPlan], data: TrainingData, engine: Engine, known: Mapping[str, Precision]
) -> EpochTimes:
    """Measures how long an epoch takes here, for plans that differ in their precision alone.

    The plans take turns. Each is warmed up and trains a fortieth of an epoch, but at least eight
    steps and 50 ms, until it is clear which precision is the faster one. If `known` has a precision
    for the network's architecture, only that one is measured.

    Raises:
        ModelError: the network cannot be built.
    """
    ready = {plans[0].precision: engine.session(plans[0], data)}
    network = ready[plans[0].precision].architecture
    plans = [each for each in plans if each.precision == known.get(network)] or plans
    least = _PROBE_STEPS * max(plan.recipe.batch_size for plan in plans)
    rows = _order(0, 0, len(data.train))[: max(least, round(len(data.train) * _PROBE_SHARE))]
    # A row's forward pass costs about a third of its training.
    equivalent = len(data.train) + len(data.validation) / 3

    def seconds(plan: TrialPlan) -> float:
        session = ready.pop(plan.precision, None) or engine.session(plan, data)
        return equivalent * _seconds_a_row(session, plan, rows)

    times = EpochTimes(network=network, rounds={plan.precision: () for plan in plans})
    while not times.rounds[plans[0].precision] or not times.decided:
        longer = {each.precision: (*times.rounds[each.precision], seconds(each)) for each in plans}
        times = EpochTimes(network=network, rounds=longer)
    return times


def _seconds_a_row(session: Session, plan: TrialPlan, rows: NDArray[np.int32]) -> float:
    session.train_epoch(rows[: plan.recipe.batch_size])
    started, passed, trained = time.perf_counter(), 0.0, 0
    while passed < _PROBE_S:
        session.train_epoch(rows)
        trained += len(rows)
        passed = time.perf_counter() - started
    return passed / trained


@dataclass
class _Progress:
    """The state of one trial in training."""

    plan: TrialPlan
    engine: Engine
    listener: Listener
    started: float = field(default_factory=time.perf_counter)
    build_s: float = 0.0
    resumed_s: float = 0.0
    """The seconds that earlier attempts needed for the epochs that this one resumes from."""
    reports: list[EpochReport] = field(default_factory=list)
    best_epoch: int | None = None
    best_weights: list[NDArray[np.generic]] = field(default_factory=list)
    best_probabilities: NDArray[np.float32] | None = None
    pace: Pace = field(default_factory=Pace)
    remarks: tuple[str, ...] = ()
    unpromotable: str = ""
    session: Session | None = None
    evaluation: Evaluation | None = None
    confident_errors: tuple[ConfidentError, ...] | None = None
    weights_sha256: str = ""
    model: KeptModel | None = None

    def run(self, load: Callable[[TrialPlan], TrainingData]) -> Outcome:
        self.data = load(self.plan)
        self.session = self.engine.session(self.plan, self.data)
        self._resume(self.session)
        self.build_s = time.perf_counter() - self.started
        while len(self.reports) < self.plan.epochs and not self._patience_spent():
            if not self._epoch(self.session, len(self.reports) + 1):
                return Outcome.PRUNED
            last = len(self.reports) == self.plan.epochs
            if not last and self.listener.stops_after(self.reports[-1]):
                return Outcome.PRUNED
            if not last:
                self._checkpoint(self.session)
        return Outcome.COMPLETED

    def _resume(self, session: Session) -> None:
        """Resumes from an earlier attempt's checkpoint, with its reports.

        If the checkpoint cannot be used, the trial starts at its first epoch.
        """
        if self.plan.resumes is None:
            return
        try:
            checkpoint = Checkpoint.read(self.plan.resumes)
            session.restore(checkpoint.state, len(checkpoint.reports))
        except (ValueError, OSError) as error:
            self._remark(f"begins again at its first epoch: {error}")
            self.session = self.engine.session(self.plan, self.data)
            return
        self.best_epoch = checkpoint.best_epoch
        self.best_weights = checkpoint.best_weights
        self.best_probabilities = checkpoint.best_probabilities
        for report in checkpoint.reports:
            self.reports.append(report)
            self.resumed_s += report.train_s + report.validation_s
            self.listener.epoch_ended(report)

    def _checkpoint(self, session: Session) -> None:
        """Writes a checkpoint if one is due; if it cannot be written, the trial goes on without."""
        if self.best_epoch is None or not self.pace.due():
            return
        checkpoint = Checkpoint(
            reports=tuple(self.reports),
            best_epoch=self.best_epoch,
            state=session.state(),
            best_weights=self.best_weights,
            best_probabilities=self.best_probabilities,
        )
        try:
            self.pace.write(checkpoint, self.plan.folder / CHECKPOINT)
        except OSError as error:
            self._remark(f"cannot keep checkpoints: {error}")

    def _epoch(self, session: Session, epoch: int) -> bool:
        """Trains and reports one epoch; False if the trial was pruned meanwhile."""
        started = time.perf_counter()
        trained = session.train_epoch(_order(self.plan.seed, epoch, len(self.data.train)))
        validating = time.perf_counter()
        if epoch > 1 and self.listener.pruned():
            return False
        probabilities = session.probabilities()
        ended = time.perf_counter()
        report = EpochReport(
            epoch=epoch,
            metrics=self._metrics(trained, probabilities),
            train_s=validating - started,
            validation_s=ended - validating,
            finished_ms=now_ms(),
        )
        self.reports.append(report)
        self.listener.epoch_ended(report)
        check_probabilities(self.plan.model.name, probabilities)
        _check_finite(report)
        if self._is_best(report):
            self.best_weights, self.best_probabilities = session.weights(), probabilities
            self.best_epoch = epoch
        return True

    def _metrics(
        self, trained: TrainedEpoch, probabilities: NDArray[np.float32]
    ) -> dict[str, float]:
        metrics = {
            "loss": trained.loss,
            "accuracy": scores.accuracy(trained.confusion),
            "macro_f1": scores.macro_f1(trained.confusion),
        }
        if self.plan.validation:
            labels = self.data.validation.labels
            confusion = scores.confusion_matrix(
                labels, probabilities.argmax(axis=1), self.data.classes
            )
            metrics |= {
                "val_loss": scores.cross_entropy(probabilities, labels),
                "val_accuracy": scores.accuracy(confusion),
                "val_macro_f1": scores.macro_f1(confusion),
            }
        return metrics

    def _is_best(self, report: EpochReport) -> bool:
        """Whether the epoch is the best so far; the last one is where the plan says so.

        So it is without a validation split.
        """
        last_counts = self.plan.counts == "last" or not self.plan.validation
        if self.best_epoch is None or last_counts:
            return True
        metric = self.plan.objective.metric
        best = self.reports[self.best_epoch - 1].metrics[metric]
        return self.plan.objective.better(report.metrics[metric], than=best)

    def _patience_spent(self) -> bool:
        patience = self.plan.recipe.patience
        if patience is None or self.best_epoch is None:
            return False
        return len(self.reports) - self.best_epoch >= patience

    def keep_best(self) -> None:
        """Evaluates the best epoch, if there is one, and writes its model file."""
        if self.session is None or self.best_epoch is None:
            return
        self.weights_sha256 = arrays_digest(self.best_weights)
        if self.plan.validation and self.best_probabilities is not None:
            labels = self.data.validation.labels
            self.evaluation = scores.evaluate_predictions(
                self.best_probabilities, labels, self.plan.classes
            )
            if self.plan.records_errors:
                self.confident_errors = scores.confident_errors(
                    self.best_probabilities, labels, self.data.held_out
                )
        path = self.plan.folder / MODEL
        try:
            self.session.save(self.best_weights, path)
        except Exception as error:  # noqa: BLE001 - a full disk, or a user's class that Keras cannot save
            path.unlink(missing_ok=True)
            why = getattr(error, "strerror", None) or gist(error).partition(". ")[0]
            self.unpromotable = f"its model could not be kept: {why}"
            self._remark(f"its model could not be kept, nor promoted: {why}")
            return
        parameters = self.session.parameters
        self.model = KeptModel(path=path, sha256=sha256_of(path), parameters=parameters)

    def check_file(self) -> None:
        """Adds a remark if the model cannot be promoted, so that this is known before the end."""
        if self.session is None or self.model is None or self.best_probabilities is None:
            return
        rows = self.data.watched
        try:
            self.session.check_file(self.model, rows, self.best_probabilities)
        except Exception as error:  # noqa: BLE001 - the user's code runs in here
            kind = "" if isinstance(error, ModelError) else f"{type(error).__name__}: "
            self.unpromotable = f"{kind}{error}"
            self._remark(f"cannot be promoted: {self.unpromotable}")

    def _remark(self, text: str) -> None:
        """Adds a remark to the result, once."""
        if text not in self.remarks:
            self.remarks += (text,)

    def result(self, state: Outcome, error: Exception | None = None) -> TrialResult:
        return TrialResult(
            state=state,
            epochs=tuple(self.reports),
            best_epoch=self.best_epoch,
            evaluation=self.evaluation,
            confident_errors=self.confident_errors,
            model=self.model,
            timings=self._timings(),
            peak_memory_mb=_peak_memory_mb(),
            weights_sha256=self.weights_sha256,
            remarks=self.remarks + (self.session.remarks if self.session else ()),
            unpromotable=self.unpromotable,
            error=_trial_error(error) if error else None,
        )

    def _timings(self) -> Timings:
        return Timings(
            build_s=self.build_s,
            train_s=sum(report.train_s for report in self.reports),
            validation_s=sum(report.validation_s for report in self.reports),
            total_s=self.resumed_s + time.perf_counter() - self.started,
        )


def _order(seed: int, epoch: int, rows: int) -> NDArray[np.int32]:
    """The shuffled row numbers of one epoch, shape (rows,), from seed and epoch alone."""
    return np.random.default_rng((seed, epoch)).permutation(rows).astype(np.int32)


def _trial_error(error: Exception) -> TrialError:
    message = user_error_message(error).strip()
    if _is_out_of_memory(error, message):
        message = f"out of memory: {message}"
    return TrialError(
        type=type(error).__name__,
        message=message,
        traceback="".join(traceback.format_exception(error)),
    )


def _is_out_of_memory(error: Exception, message: str) -> bool:
    """Whether NumPy, TensorFlow or JAX reports that the memory is used up."""
    tensorflows = type(error).__name__ == "ResourceExhaustedError"
    return isinstance(error, MemoryError) or tensorflows or "RESOURCE_EXHAUSTED" in message


def _check_finite(report: EpochReport) -> None:
    for name, value in report.metrics.items():
        if not math.isfinite(value):
            raise DivergedError(f"diverged: {name} is {value} after epoch {report.epoch}")


def _peak_memory_mb() -> float:
    """The peak memory of this process since its start, in MiB.

    `getrusage` counts also what its parent had when it forked, so it serves only kernels without a
    `VmHWM`, such as gVisor's.
    """
    own = re.search(r"^VmHWM:\s*(\d+) kB$", Path("/proc/self/status").read_text(), re.MULTILINE)
    peak_kib = own[1] if own else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return int(peak_kib) / 1024
