"""The loop on an engine that follows a script."""

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.training.conftest import PlanMaker
from tests.training.scripted_engine import (
    HELD_OUT,
    ROWS,
    TRAINED,
    Listener,
    ScriptedEngine,
    kept_epoch,
    train,
)
from tuner.errors import ModelError
from tuner.spec.objective import Objective
from tuner.training import training_loop
from tuner.training.data import TrainingData
from tuner.training.plan import EpochReport, Outcome, TrialPlan, TrialResult


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
