"""A pool whose trainers answer at once, so that all the time that passes is the driver's."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from tuner.models.model_file import sha256_of
from tuner.training.plan import (
    ClassScores,
    EpochEnded,
    EpochReport,
    Evaluation,
    KeptModel,
    ModelPlan,
    Outcome,
    Precision,
    Timings,
    TrainerInfo,
    TrialPlan,
    TrialResult,
)
from tuner.training.timing import EpochTimes
from tuner.workers.messages import Described
from tuner.workers.pool import NOTHING_KNOWN, Finished, PoolEvent, Reported

_TRAINER = TrainerInfo(
    host="here", pid=1, assigned="cpu:0", device="cpu:0", backend="none", versions={}
)


@dataclass
class InstantPool:
    """`size` trainers that take turns, an epoch each, and never end a trial early."""

    size: int
    _reports: dict[int, list[EpochReport]] = field(default_factory=dict)
    _plans: dict[int, TrialPlan] = field(default_factory=dict)

    @property
    def idle(self) -> int:
        """Trainers without a plan."""
        return self.size - len(self._reports)

    def describe(self, model: ModelPlan, dataset: str) -> Described:  # noqa: ARG002
        """The parameters that the benchmark searches."""
        hyperparameters = {"dropout_rate": 0.5}
        return Described(hyperparameters=hyperparameters, source={})

    def epoch_times(
        self,
        plan: TrialPlan,
        precisions: Sequence[Precision],
        known: Mapping[str, Precision] = NOTHING_KNOWN,
    ) -> EpochTimes:
        """No time at all, for any plan."""
        del known
        return EpochTimes(network="", rounds=dict.fromkeys(precisions, (0.0 * plan.epochs,)))

    def submit(self, plan: TrialPlan) -> TrainerInfo:
        """Takes the plan."""
        self._plans[plan.slot], self._reports[plan.slot] = plan, []
        return _TRAINER

    def proceed(self, plan: TrialPlan, epoch: int) -> None:
        """Goes on anyway."""

    def prune(self, plan: TrialPlan) -> None:
        """Goes on: every trial has all its epochs, so that trials cost the same."""

    def kill(self, plan: TrialPlan, reason: str) -> None:
        """Nothing hangs here."""

    def next_event(self, timeout_s: float) -> PoolEvent | None:
        """The next epoch of the trial that has waited longest, or its end."""
        if not self._reports:
            time.sleep(timeout_s)
            return None
        slot = next(iter(self._reports))
        plan, reports = self._plans[slot], self._reports.pop(slot)
        if len(reports) == plan.epochs:
            return Finished(plan, _result(self._plans.pop(slot), reports))
        report = _report(plan, len(reports) + 1)
        self._reports[slot] = [*reports, report]
        return Reported(plan, EpochEnded(report=report))

    def close(self) -> None:
        """Forgets its plans."""
        self._reports.clear()


def _report(plan: TrialPlan, epoch: int) -> EpochReport:
    """Better the nearer the learning rate is to 0.003, and with every epoch."""
    accuracy = 1 - abs(float(plan.params["learning_rate"]) - 0.003) * 50 - 0.1 / epoch
    values = {"loss": 1 - accuracy, "accuracy": accuracy, "macro_f1": accuracy}
    metrics = {**values, **{f"val_{name}": value for name, value in values.items()}}
    now_ms = time.time_ns() // 1_000_000
    return EpochReport(
        epoch=epoch, metrics=metrics, train_s=1.0, validation_s=0.1, finished_ms=now_ms
    )


def _result(plan: TrialPlan, reports: list[EpochReport]) -> TrialResult:
    path = plan.folder / "model.keras"
    path.write_text(f"slot {plan.slot}")
    best = max(reports, key=lambda report: report.metrics[plan.objective.metric])
    return TrialResult(
        state=Outcome.COMPLETED,
        epochs=tuple(reports),
        best_epoch=best.epoch,
        evaluation=_evaluation(plan.classes, best.metrics["val_accuracy"]),
        model=KeptModel(path=path, sha256=sha256_of(path), parameters=225_034),
        timings=Timings(build_s=0.1, train_s=10.0, validation_s=1.0, total_s=11.2),
        peak_memory_mb=800.0,
    )


def _evaluation(classes: Sequence[str], accuracy: float) -> Evaluation:
    def scores(label: str, support: int) -> ClassScores:
        return ClassScores(
            label=label, precision=accuracy, recall=accuracy, f1=accuracy, support=support
        )

    size = range(len(classes))
    return Evaluation(
        accuracy=accuracy,
        loss=1 - accuracy,
        confusion=tuple(tuple(990 if row == column else 1 for column in size) for row in size),
        classes=tuple(scores(label, 1000) for label in classes),
        macro=scores("macro avg", 1000 * len(classes)),
    )
