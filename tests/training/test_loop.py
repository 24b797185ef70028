"""The loop on an engine that follows a script: no network, the same numbers every time."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
from numpy.typing import NDArray

from tuner.errors import ModelError
from tuner.models.model_file import sha256_of
from tuner.spec.objective import Objective
from tuner.training import training_loop
from tuner.training.checkpoint import Checkpoint
from tuner.training.data import Rows, TrainingData
from tuner.training.engines.base import TrainedEpoch
from tuner.training.plan import (
    CHECKPOINT,
    EpochReport,
    KeptModel,
    Outcome,
    Precision,
    TrialPlan,
    TrialResult,
)

CLASSES = 10
ROWS = 100
HELD_OUT = 1000 + np.arange(ROWS)

PlanMaker = Callable[..., TrialPlan]


@dataclass
class Listener:
    """Keeps what it hears, and prunes when told to."""

    prunes_after: int | None = None
    heard: list[EpochReport] = field(default_factory=list)
    told: bool = False

    def epoch_ended(self, report: EpochReport) -> None:
        self.heard.append(report)
        self.told |= report.epoch == self.prunes_after

    def stops_after(self, report: EpochReport) -> bool:
        return self.told and report.epoch >= 1

    def pruned(self) -> bool:
        return self.told


@dataclass
class ScriptedEngine:
    """An engine and its only session: epoch after epoch it does what `right` says.

    Its one weight counts the epochs, and a saved model is a file with that number in it.
    """

    right: tuple[int, ...]
    """How many of 100 validation rows each epoch gets right; `TRAINED` for training rows."""
    loss: dict[int, float] = field(default_factory=dict)
    """The training loss of an epoch, 1 where it is not told."""
    during: dict[int, Callable[[], None]] = field(default_factory=dict)
    """What else happens in the course of an epoch."""
    softmax: bool = True
    unlike: bool = False
    """Whether its file answers otherwise than it does."""
    epoch: int = 0
    orders: list[list[int]] = field(default_factory=list)
    parameters: int = 1
    architecture: str = "scripted"
    backend: str = "none"
    platform: Literal["cpu", "gpu"] = "cpu"
    remarks: tuple[str, ...] = ()
    precisions: tuple[Precision, ...] = ("float32", "bfloat16")

    def session(self, _plan: TrialPlan, data: TrainingData) -> "ScriptedEngine":
        self._labels = data.validation.labels
        return self

    def versions(self) -> dict[str, str]:
        return {}

    def train_epoch(self, order: NDArray[np.int32]) -> TrainedEpoch:
        self.epoch += 1
        self.orders.append(order.tolist())
        self.during.get(self.epoch, lambda: None)()
        confusion = np.zeros((CLASSES, CLASSES), np.int64)
        confusion[0, :2] = TRAINED, len(order) - TRAINED
        return TrainedEpoch(self.loss.get(self.epoch, 1.0), confusion)

    def probabilities(self) -> NDArray[np.float32]:
        right = np.arange(len(self._labels)) < self.right[self.epoch - 1]
        predicted = np.where(right, self._labels, (self._labels + 1) % CLASSES)
        certain = np.eye(CLASSES, dtype=np.float32)[predicted]
        return np.float32(0.9) * certain + np.float32(0.01) if self.softmax else certain * 5

    def weights(self) -> list[NDArray[np.generic]]:
        return [np.array(self.epoch)]

    def state(self) -> list[NDArray[np.generic]]:
        return [np.array(self.epoch)]

    def restore(self, state: Sequence[NDArray[np.generic]], epochs: int) -> None:
        (self.epoch,) = (int(each) for each in state)
        assert self.epoch == epochs

    def save(self, weights: list[NDArray[np.generic]], path: Path) -> None:
        path.write_text(str(weights[0]))

    def check_file(self, model: KeptModel, rows: Rows, answers: NDArray[np.float32]) -> None:
        assert model.sha256 == sha256_of(model.path)
        assert len(rows) == len(answers)
        if self.unlike:
            raise ModelError("it is another network")


@dataclass
class Clock:
    """Goes only when told."""

    seconds: float = 0.0

    def now(self) -> float:
        return self.seconds

    def advance(self, seconds: float) -> None:
        self.seconds += seconds


TRAINED = 40


def _rows() -> Rows:
    return Rows(np.zeros((ROWS, 2, 2, 1), np.uint8), np.arange(ROWS) % CLASSES)


def train(plan: TrialPlan, engine: ScriptedEngine, listener: Listener | None = None) -> TrialResult:
    data = TrainingData(train=_rows(), validation=_rows(), held_out=HELD_OUT, classes=CLASSES)
    return training_loop.train(plan, lambda _plan: data, engine, listener or Listener())


def kept_epoch(result: TrialResult) -> int:
    """The epoch whose weights lie in the kept model's file."""
    assert result.model is not None
    assert result.model.sha256 == sha256_of(result.model.path)
    return int(result.model.path.read_text())


def test_a_completed_trial_has_its_curve_its_evaluation_and_its_model(make_plan: PlanMaker) -> None:
    listener = Listener()
    result = train(make_plan(epochs=3), ScriptedEngine((30, 50, 40)), listener)
    assert result.state is Outcome.COMPLETED
    assert result.error is None
    assert result.epochs == tuple(listener.heard)
    assert [report.epoch for report in result.epochs] == [1, 2, 3]
    assert [report.metrics["val_accuracy"] for report in result.epochs] == [0.3, 0.5, 0.4]
    assert result.epochs[0].metrics["accuracy"] == TRAINED / ROWS
    assert result.evaluation is not None
    assert result.evaluation.accuracy == 0.5
    assert result.evaluation.loss == pytest.approx(result.epochs[1].metrics["val_loss"])
    assert result.value(Objective()) == 0.5
    assert kept_epoch(result) == result.best_epoch == 2


def test_every_epoch_reports_the_six_metrics(make_plan: PlanMaker) -> None:
    result = train(make_plan(epochs=1), ScriptedEngine((30,), loss={1: 0.7}))
    metrics = result.epochs[0].metrics
    assert set(metrics) == {
        *("loss", "accuracy", "macro_f1"),
        *("val_loss", "val_accuracy", "val_macro_f1"),
    }
    assert metrics["loss"] == 0.7
    assert metrics["val_loss"] == pytest.approx(-0.3 * np.log(0.91) - 0.7 * np.log(0.01))


def test_the_earliest_of_equal_epochs_is_best(make_plan: PlanMaker) -> None:
    result = train(make_plan(epochs=4), ScriptedEngine((30, 50, 50, 40)))
    assert kept_epoch(result) == result.best_epoch == 2


def test_the_smallest_loss_is_best(make_plan: PlanMaker) -> None:
    plan = make_plan(epochs=4, objective=Objective(metric="val_loss"))
    result = train(plan, ScriptedEngine((30, 50, 50, 40)))
    assert kept_epoch(result) == result.best_epoch == 2
    assert result.value(plan.objective) == min(r.metrics["val_loss"] for r in result.epochs)


@pytest.mark.parametrize(("patience", "epochs"), [(1, 3), (2, 6), (3, 7), (None, 7)])
def test_patience_is_counted_from_the_best_epoch(
    make_plan: PlanMaker, patience: int | None, epochs: int
) -> None:
    script = ScriptedEngine((30, 40, 40, 50, 45, 50, 20))
    result = train(make_plan(epochs=7, patience=patience), script)
    assert result.state is Outcome.COMPLETED
    assert len(result.epochs) == script.epoch == epochs


def test_each_epoch_has_its_own_order_of_all_rows(make_plan: PlanMaker) -> None:
    script, again = ScriptedEngine((1, 2, 3)), ScriptedEngine((1, 2, 3))
    train(make_plan(epochs=3), script)
    assert [sorted(order) for order in script.orders] == [list(range(ROWS))] * 3
    assert len({tuple(order) for order in script.orders}) == 3
    train(make_plan(epochs=3), again)
    assert again.orders == script.orders
    other = ScriptedEngine((1, 2, 3))
    train(make_plan(epochs=3, seed=2), other)
    assert other.orders != script.orders


def test_pruned_between_epochs(make_plan: PlanMaker) -> None:
    script = ScriptedEngine((50, 40, 60, 70))
    result = train(make_plan(epochs=4), script, Listener(prunes_after=2))
    assert script.epoch == 2, "the epoch after the verdict is not trained"
    assert result.state is Outcome.PRUNED
    assert len(result.epochs) == 2
    assert result.evaluation is not None
    assert result.evaluation.accuracy == 0.5
    assert kept_epoch(result) == result.best_epoch == 1


def test_an_epoch_in_which_pruning_is_asked_for_is_left_out(make_plan: PlanMaker) -> None:
    listener = Listener()
    script = ScriptedEngine((50, 60, 70), during={3: lambda: setattr(listener, "told", True)})
    result = train(make_plan(epochs=4), script, listener)
    assert result.state is Outcome.PRUNED
    assert script.epoch == 3
    assert [report.epoch for report in listener.heard] == [1, 2]
    assert result.epochs == tuple(listener.heard)
    assert kept_epoch(result) == result.best_epoch == 2


def test_the_first_epoch_counts_even_if_pruned_in_its_course(make_plan: PlanMaker) -> None:
    listener = Listener()
    script = ScriptedEngine((50,), during={1: lambda: setattr(listener, "told", True)})
    result = train(make_plan(epochs=4), script, listener)
    assert result.state is Outcome.PRUNED
    assert len(result.epochs) == 1
    assert kept_epoch(result) == 1


def test_without_validation_the_last_epoch_counts(make_plan: PlanMaker) -> None:
    plan = make_plan(epochs=3, validation=0, objective=Objective(metric="loss"))
    result = train(plan, ScriptedEngine((9, 9, 9), loss={1: 0.5, 2: 0.1, 3: 0.2}))
    assert kept_epoch(result) == result.best_epoch == 3
    assert result.evaluation is None
    assert result.value(plan.objective) == 0.2
    assert set(result.epochs[0].metrics) == {"loss", "accuracy", "macro_f1"}


@pytest.mark.parametrize("loss", [float("nan"), float("inf")])
def test_a_loss_that_is_not_finite_has_diverged(make_plan: PlanMaker, loss: float) -> None:
    result = train(make_plan(epochs=4), ScriptedEngine((30, 50, 60, 70), loss={3: loss}))
    assert result.state is Outcome.FAILED
    assert result.error is not None
    assert result.error.message == f"diverged: loss is {loss} after epoch 3"
    assert len(result.epochs) == 3
    assert kept_epoch(result) == result.best_epoch == 2
    assert result.evaluation is not None
    assert result.evaluation.accuracy == 0.5


def test_diverged_in_the_first_epoch(make_plan: PlanMaker) -> None:
    result = train(make_plan(), ScriptedEngine((30,), loss={1: float("nan")}))
    assert result.state is Outcome.FAILED
    assert result.best_epoch is None
    assert result.model is None
    assert result.evaluation is None
    assert result.value(Objective()) is None


def test_figures_that_are_not_finite_survive_json(make_plan: PlanMaker) -> None:
    result = train(make_plan(), ScriptedEngine((30,), loss={1: float("nan")}))
    (report,) = TrialResult.model_validate_json(result.model_dump_json()).epochs
    assert np.isnan(report.metrics["loss"])
    infinite = report.model_copy(update={"metrics": {"loss": float("inf")}})
    assert EpochReport.model_validate_json(infinite.model_dump_json()) == infinite


def test_a_result_comes_back_from_json_unchanged(make_plan: PlanMaker) -> None:
    result = train(make_plan(epochs=2), ScriptedEngine((30, 50)))
    assert TrialResult.model_validate_json(result.model_dump_json()) == result


@pytest.mark.parametrize("validation", [40, 0])
def test_a_network_without_a_softmax_fails_in_words(make_plan: PlanMaker, validation: int) -> None:
    plan = make_plan(validation=validation, objective=Objective(metric="loss"))
    result = train(plan, ScriptedEngine((30,), softmax=False))
    assert result.state is Outcome.FAILED
    assert result.error is not None
    assert result.error.type == "ModelError"
    assert result.error.message == (
        "dense: must output class probabilities that sum to 1, got a sum of 5; "
        "end the network with a softmax"
    )


def test_a_model_that_cannot_be_promoted_says_so_at_once(make_plan: PlanMaker) -> None:
    result = train(make_plan(epochs=1), ScriptedEngine((30,), unlike=True))
    assert result.state is Outcome.COMPLETED
    assert result.remarks == ("cannot be promoted: it is another network",)
    assert result.unpromotable == "it is another network"


def test_every_remark_is_kept(make_plan: PlanMaker, tmp_path: Path) -> None:
    plan = make_plan(epochs=3, resumes=tmp_path / "gone.npz", folder=tmp_path / "absent")
    result = train(plan, ScriptedEngine((30, 40, 50)))
    assert [remark.partition(":")[0] for remark in result.remarks] == [
        "begins again at its first epoch",
        "cannot keep checkpoints",
        "its model could not be kept, nor promoted",
    ]


def test_weights_that_cannot_be_copied_leave_no_best_epoch(make_plan: PlanMaker) -> None:
    class Full(ScriptedEngine):
        def weights(self) -> list[NDArray[np.generic]]:
            raise MemoryError

    result = train(make_plan(epochs=2), Full((30, 40)))
    assert result.state is Outcome.FAILED
    assert result.error is not None
    assert result.error.type == "MemoryError"
    assert result.best_epoch is None


def test_whatever_the_model_function_raises_is_a_failed_trial(make_plan: PlanMaker) -> None:
    class Broken(ScriptedEngine):
        def session(self, plan: TrialPlan, data: TrainingData) -> "ScriptedEngine":
            raise ModelError(f"{plan.model.name} on {data.image_shape}") from ZeroDivisionError()

    result = train(make_plan(), Broken(()))
    assert result.state is Outcome.FAILED
    assert result.error is not None
    assert result.error.type == "ModelError"
    assert result.error.message == "dense on (2, 2, 1)"
    assert "ZeroDivisionError" in result.error.traceback
    assert Path(__file__).name in result.error.traceback
    assert result.epochs == ()
    assert result.model is None


def test_rows_that_cannot_be_had_are_a_failed_trial(make_plan: PlanMaker) -> None:
    def load(plan: TrialPlan) -> TrainingData:
        raise OSError(f"no {plan.dataset.name}")

    result = training_loop.train(make_plan(), load, ScriptedEngine(()), Listener())
    assert result.state is Outcome.FAILED
    assert result.error is not None
    assert result.error.message == "no no-data"


def test_a_model_that_cannot_be_written_costs_the_model_alone(
    make_plan: PlanMaker, tmp_path: Path
) -> None:
    result = train(make_plan(epochs=2, folder=tmp_path / "absent"), ScriptedEngine((30, 50)))
    assert result.state is Outcome.COMPLETED
    assert result.model is None
    assert "its model could not be kept, nor promoted: No such file or directory" in result.remarks
    assert result.best_epoch == 2
    assert result.unpromotable == "its model could not be kept: No such file or directory"


@pytest.mark.parametrize(
    ("float32_s", "bfloat16_s", "rounds"),
    [
        ((3.0,), (1.0,), 1),
        ((1.0,), (3.0,), 1),
        ((4.0, 4.0, 5.0), (3.0, 3.0, 3.5), 3),
        ((4.0, 4.0, 5.0, 4.0, 4.0), (3.0, 3.9, 3.5, 4.1, 4.0), 5),
    ],
)
def test_an_epochs_seconds_are_measured_without_the_first_step_until_they_tell(
    make_plan: PlanMaker,
    monkeypatch: pytest.MonkeyPatch,
    float32_s: tuple[float, ...],
    bfloat16_s: tuple[float, ...],
    rounds: int,
) -> None:
    taken = [seconds for pair in zip(float32_s, bfloat16_s, strict=True) for seconds in pair]
    clock = Clock()
    epochs: dict[int, Callable[[], None]] = {
        2 * turn + 1: partial(clock.advance, 9.0) for turn in range(len(taken))
    }
    epochs |= {2 * turn + 2: partial(clock.advance, each) for turn, each in enumerate(taken)}
    script = ScriptedEngine((), during=epochs)
    monkeypatch.setattr("tuner.training.training_loop.time.perf_counter", clock.now)

    data = TrainingData(train=_rows(), validation=_rows(), held_out=HELD_OUT, classes=CLASSES)
    plans = [make_plan(batch_size=4, precision=each) for each in ("float32", "bfloat16")]
    times = training_loop.epoch_times(plans, data, script, {})

    per_row = (ROWS + ROWS / 3) / 32
    assert times.rounds == {
        "float32": pytest.approx([each * per_row for each in float32_s]),
        "bfloat16": pytest.approx([each * per_row for each in bfloat16_s]),
    }
    assert [len(order) for order in script.orders] == [4, 32] * 2 * rounds


def test_short_steps_are_repeated_and_a_known_network_is_measured_in_its_precision_alone(
    make_plan: PlanMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock()
    steps: dict[int, Callable[[], None]] = {
        number: partial(clock.advance, 0.04) for number in range(1, 5)
    }
    script = ScriptedEngine((), during=steps)
    monkeypatch.setattr("tuner.training.training_loop.time.perf_counter", clock.now)
    data = TrainingData(train=_rows(), validation=_rows(), held_out=HELD_OUT, classes=CLASSES)
    plans = [make_plan(batch_size=4, precision=each) for each in ("float32", "bfloat16")]

    times = training_loop.epoch_times(
        plans, data, script, {"scripted": "bfloat16", "other": "float32"}
    )

    assert times.rounds == {"bfloat16": pytest.approx([0.04 * (ROWS + ROWS / 3) / 32])}
    assert times.precision == "bfloat16"
    assert [len(order) for order in script.orders] == [4, 32, 32]


def interrupted(plan: TrialPlan, engine: ScriptedEngine, epoch: int) -> Path:
    """The checkpoint of a training that ended with its process in the course of an epoch."""

    def die() -> None:
        raise SystemExit

    engine.during = {epoch: die}
    with pytest.raises(SystemExit):
        train(plan, engine)
    return plan.folder / CHECKPOINT


def test_an_attempt_that_goes_on_ends_as_one_that_was_never_interrupted(
    make_plan: PlanMaker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tuner.training.checkpoint._SHARE", math.inf)  # after every epoch
    right = (30, 60, 40, 20, 50)
    through = train(make_plan(epochs=5, folder=tmp_path), ScriptedEngine(right))
    checkpoint = interrupted(make_plan(epochs=5), ScriptedEngine(right), epoch=4)
    listener, engine = Listener(), ScriptedEngine(right)

    resumed = train(make_plan(epochs=5, resumes=checkpoint), engine, listener)

    assert len(engine.orders) == 2, "only what was missing is trained"
    assert resumed.epochs == tuple(listener.heard)
    assert [e.metrics for e in resumed.epochs] == [e.metrics for e in through.epochs]
    assert resumed.evaluation == through.evaluation
    assert resumed.weights_sha256 == through.weights_sha256 != ""
    assert kept_epoch(resumed) == resumed.best_epoch == through.best_epoch == 2


def test_the_time_of_a_resumed_trial_holds_the_epochs_that_it_takes_over(
    make_plan: PlanMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tuner.training.checkpoint._SHARE", math.inf)  # after every epoch
    path = interrupted(make_plan(epochs=3), ScriptedEngine((10, 20, 30)), epoch=3)
    left = Checkpoint.read(path)
    slow = [
        each.model_copy(update={"train_s": 100.0, "validation_s": 10.0}) for each in left.reports
    ]
    replace(left, reports=tuple(slow)).write(path)

    result = train(make_plan(epochs=3, resumes=path), ScriptedEngine((10, 20, 30)))

    timings = result.timings
    assert timings.train_s + timings.validation_s > 220
    assert timings.total_s > timings.train_s + timings.validation_s


def test_patience_counts_the_epochs_of_the_attempt_before(make_plan: PlanMaker) -> None:
    right, recipe = (60, 40, 40, 40, 40), {"patience": 3}
    checkpoint = interrupted(make_plan(epochs=5, **recipe), ScriptedEngine(right), epoch=4)
    resumed = train(make_plan(epochs=5, resumes=checkpoint, **recipe), ScriptedEngine(right))
    assert [report.epoch for report in resumed.epochs] == [1, 2, 3, 4]


def test_a_checkpoint_that_cannot_be_used_costs_its_epochs_and_is_remarked(
    make_plan: PlanMaker,
) -> None:
    checkpoint = interrupted(make_plan(epochs=4), ScriptedEngine((10, 20, 30, 40)), epoch=3)
    checkpoint.write_bytes(checkpoint.read_bytes()[:-100])
    engine = ScriptedEngine((10, 20, 30, 40))
    resumed = train(make_plan(epochs=4, resumes=checkpoint), engine)
    assert len(engine.orders) == len(resumed.epochs) == 4
    assert resumed.remarks[0].startswith("begins again at its first epoch")


def test_a_folder_that_takes_no_checkpoint_ends_no_trial(make_plan: PlanMaker) -> None:
    plan = make_plan(epochs=3)
    (plan.folder / f".partial-{CHECKPOINT}").mkdir()
    result = train(plan, ScriptedEngine((10, 20, 30)))
    assert result.state is Outcome.COMPLETED
    assert result.remarks[0].startswith("cannot keep checkpoints")


def test_a_plan_that_asks_for_them_gets_the_confident_errors_of_its_best_epoch(
    make_plan: PlanMaker,
) -> None:
    engine = ScriptedEngine(right=(ROWS - 3, ROWS - 2, ROWS - 1))
    assert train(make_plan(epochs=3), engine).confident_errors is None
    plan = make_plan(epochs=3, records_errors=True, counts="last")
    result = train(plan, ScriptedEngine(right=(ROWS - 3, ROWS - 2, ROWS - 1)))
    assert result.confident_errors is not None
    ((row, label, predicted, probability),) = result.confident_errors
    assert (row, label, predicted) == (int(HELD_OUT[-1]), 9, 0)
    assert probability == pytest.approx(0.91)
    assert TrialResult.model_validate_json(result.model_dump_json()) == result
