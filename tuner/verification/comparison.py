"""The comparison of a recorded training with its repetition, as data and in words."""

from collections import Counter
from collections.abc import Iterator
from enum import StrEnum

from tuner.spec.section import Frozen
from tuner.training.plan import Outcome, TrainerInfo, TrialResult
from tuner.verification.noise import Spread
from tuner.verification.record import RecordedMetric, RecordedTraining
from tuner.words import count


class Agreement(StrEnum):
    """How far a repetition agrees with the record."""

    IDENTICAL = "identical"
    """Every recorded figure is equal bit for bit, and the weights if their digest is recorded."""
    WITHIN_NOISE = "within noise"
    """Something differs, the value by no more than two trainings with different seeds."""
    DIFFERENT = "different"


class FirstDifference(Frozen):
    """The first figure that the record and the repetition do not have in common."""

    epoch: int
    figure: str
    """A metric; or `weights`, `epochs` or `outcome`."""
    source: str
    """Where the recorded value is: `database` or `spool`."""
    recorded: float | str
    repeated: float | str | None
    """None if the repetition ended before that epoch."""

    def __str__(self) -> str:
        return (
            f"epoch {self.epoch}, {self.figure}: recorded {self.recorded} ({self.source}), "
            f"repeated {'nothing' if self.repeated is None else self.repeated}"
        )


class Change(Frozen):
    """A circumstance of the training that differs here: a version, the processor, the threads."""

    name: str
    recorded: str
    here: str


class Verification(Frozen):
    """What the repetition of a recorded training showed; `tuner verify --json` prints its JSON."""

    study: str
    trial: int
    agreement: Agreement
    state: Outcome
    """How the recorded training ended; a pruned one is repeated up to its last epoch."""
    epochs: int
    """The number of epochs that were compared."""
    metric: str
    """The objective."""
    recorded: float
    """Its recorded value, at the best epoch."""
    repeated: float | None
    """Its value at that epoch of the repetition; None if that ended before."""
    difference: float | None
    """The repeated value less the recorded one."""
    first: FirstDifference | None
    """None if everything is identical."""
    figures: dict[str, int]
    """The number of recorded figures that were compared, by where they are recorded."""
    weights: bool
    """Whether the weights of the best epoch were compared too."""
    spread: Spread | None
    """What the difference is compared with; None if it is not known, and for a pruned trial."""
    changes: tuple[Change, ...]
    """What differs here from where the trial was trained."""
    unrecorded: tuple[str, ...]
    """What the record does not tell, so that it could not be compared."""
    exact: bool
    """Whether nothing recorded can make a repetition differ: TensorFlow on one thread of the same
    processor, with the same versions, in one attempt."""
    error: str = ""
    """Why the repetition failed, if it did."""

    def lines(self) -> Iterator[str]:
        """Yields the finding in words and numbers."""
        pruned = ", up to its pruning" if self.state is Outcome.PRUNED else ""
        yield f"trial {self.trial} of {self.study}{pruned}: {self.agreement}"
        yield self._compared()
        if self.first is not None:
            yield f"first difference: {self.first}"
            yield from self._value()
        yield from (
            f"{each.name}: recorded {each.recorded}, here {each.here}" for each in self.changes
        )
        if self.unrecorded:
            yield f"not recorded: {', '.join(self.unrecorded)}"
        if self.agreement is Agreement.DIFFERENT and self.exact and not self.error:
            yield (
                "versions, processor and threads are as recorded, and one thread repeats bit for "
                "bit; so the record was changed, or what the code reads besides its data set"
            )

    def _compared(self) -> str:
        told = [f"{count(n, 'figure')} in the {source}" for source, n in self.figures.items()]
        weights = ["the weights"] if self.weights else []
        return f"compared {count(self.epochs, 'epoch')}: {', '.join([*told, *weights])}"

    def _value(self) -> Iterator[str]:
        if self.error:
            yield f"the repeated training failed: {self.error}"
        if self.difference is None:
            return
        yield (
            f"{self.metric}: recorded {self.recorded}, repeated {self.repeated}, "
            f"difference {self.difference:+.3g}"
        )
        yield str(self.spread or _no_spread(self.state))


def _no_spread(state: Outcome) -> str:
    if state is Outcome.PRUNED:
        return "what seeds change in a pruned training is not known, so this may be more than noise"
    return (
        "what seeds change is not known, so this may be more than noise: no point has two "
        "completed trainings, as with several seeds or after tuner confirm"
    )


def compare(
    study: str,
    metric: str,
    recorded: RecordedTraining,
    trainer: TrainerInfo,
    result: TrialResult,
    spread: Spread | None,
) -> Verification:
    """Compares a recorded training with its repetition.

    Args:
        study: the study's name.
        metric: its objective.
        recorded: the record.
        trainer: the trainer of the repetition.
        result: the repetition; epochs after the last recorded one do not count.
        spread: how far trainings of one point differ.
    """
    epochs = [report.metrics for report in result.epochs[: recorded.epochs]]
    weights = bool(recorded.weights_sha256) and len(result.epochs) == recorded.epochs
    first = _first_difference(recorded, result, weights=weights)
    best = recorded.best_epoch
    repeated = epochs[best - 1][metric] if best <= len(epochs) else None
    apart = None if repeated is None else repeated - recorded.value
    changes = tuple(_changes(recorded.trainer, trainer))
    unrecorded = tuple(_unrecorded(recorded))
    exact = _is_exact(recorded, trainer) and not changes
    # The spread is that of complete trainings.
    noise = spread if recorded.outcome is Outcome.COMPLETED else None
    return Verification(
        study=study,
        trial=recorded.number,
        agreement=_agreement(first, apart, noise, exact=exact),
        state=recorded.outcome,
        epochs=len(epochs),
        metric=metric,
        recorded=recorded.value,
        repeated=repeated,
        difference=apart,
        first=first,
        figures=dict(Counter(figure.source for figure in recorded.figures)),
        weights=weights,
        spread=noise,
        changes=changes,
        unrecorded=unrecorded,
        exact=exact,
        error="" if result.error is None else f"{result.error.type}: {result.error.message}",
    )


def _agreement(
    first: FirstDifference | None, apart: float | None, spread: Spread | None, *, exact: bool
) -> Agreement:
    if first is None:
        return Agreement.IDENTICAL
    if exact or apart is None or spread is None or not abs(apart) <= spread.limit:
        return Agreement.DIFFERENT
    return Agreement.WITHIN_NOISE


def _first_difference(
    recorded: RecordedTraining, result: TrialResult, *, weights: bool
) -> FirstDifference | None:
    for figure in recorded.figures:
        found = _repeated(figure, result)
        if found != figure.value:
            return FirstDifference(
                epoch=figure.epoch,
                figure=figure.metric,
                source=figure.source,
                recorded=figure.value,
                repeated=found,
            )
    return _difference_beside_figures(recorded, result, weights=weights)


def _difference_beside_figures(
    recorded: RecordedTraining, result: TrialResult, *, weights: bool
) -> FirstDifference | None:
    """The first of what else is recorded and differs. A pruned repetition may end an epoch late."""
    told: list[tuple[str, float | str, float | str]] = [
        ("epochs", recorded.epochs, len(result.epochs)),
        ("outcome", recorded.outcome.value, result.state.value),
        ("weights", recorded.weights_sha256, result.weights_sha256),
    ]
    checked = {"weights"} if weights else set()
    if recorded.outcome is Outcome.COMPLETED:
        checked |= {"epochs", "outcome"}
    for name, before, now in told:
        if name in checked and before != now:
            epoch = recorded.best_epoch if name == "weights" else recorded.epochs
            return FirstDifference(
                epoch=epoch, figure=name, source="database", recorded=before, repeated=now
            )
    return None


def _repeated(figure: RecordedMetric, result: TrialResult) -> float | None:
    if not 0 < figure.epoch <= len(result.epochs):
        return None
    return result.epochs[figure.epoch - 1].metrics.get(figure.metric)


def _changes(recorded: TrainerInfo | None, here: TrainerInfo) -> Iterator[Change]:
    """The circumstances that are recorded and differ here."""
    before, now = {} if recorded is None else _circumstances(recorded), _circumstances(here)
    for name in before:
        if before[name] and before[name] != now.get(name, ""):
            yield Change(name=name, recorded=before[name], here=now.get(name) or "none")


def _circumstances(trainer: TrainerInfo) -> dict[str, str]:
    return {
        **trainer.versions,
        "device": trainer.kind,
        "processor": trainer.processor,
        "threads": "" if trainer.threads is None else str(trainer.threads),
    }


def _unrecorded(recorded: RecordedTraining) -> Iterator[str]:
    trainer = recorded.trainer
    if trainer is None:
        yield "versions, processor and number of threads"
    elif trainer.threads is None:
        yield "processor and number of threads"
    if not recorded.weights_sha256:
        yield "a digest of the weights"
    if recorded.code is None:
        yield "the code"


def _is_exact(recorded: RecordedTraining, here: TrainerInfo) -> bool:
    trainer = recorded.trainer
    known = trainer is not None and trainer.threads == 1 and recorded.attempts == 1
    return known and here.backend == "tensorflow" and here.kind == "cpu"
