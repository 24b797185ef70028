"""What drivers that die between two writes leave of a trial, and what is read of it."""

from typing import Any

import pytest

from tests.bench import Bench, small_study
from tuner.search.trials import OpenTrial, Trials, stored_result
from tuner.spec.study_spec import StudySpec
from tuner.storage.attempts import ClaimedSlot
from tuner.study.summary import summarise
from tuner.training.plan import Outcome, Timings, TrainerInfo, TrialResult

SPACE = {name: {"type": "float", "low": 0.1, "high": 0.9} for name in ("learning_rate", "a", "b")}


TRAINER = TrainerInfo(
    host="here",
    pid=1,
    assigned="cpu:0",
    device="cpu:0",
    backend="tensorflow",
    versions={"keras": "3.15.1"},
    threads=1,
)


class Died(BaseException):
    """Ends a driver at once."""


def claim(bench: Bench, spec: StudySpec, driver: str) -> ClaimedSlot:
    ledger = bench.ledger(spec, driver)
    claimed = ledger.claim(spec.slots, ready=lambda _slot: True, takes_queued=lambda _slot: True)
    assert claimed is not None
    return claimed


def open_next(bench: Bench, spec: StudySpec) -> tuple[Trials, OpenTrial]:
    claimed = claim(bench, spec, bench.member(spec))
    trials = bench.trials(spec)
    return trials, trials.open(claimed)


@pytest.mark.parametrize("sampler", ["random", "tpe", "qmc"])
def test_a_driver_that_dies_between_two_parameters_leaves_the_whole_point(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, sampler: str
) -> None:
    spec, twin = (
        small_study(search_space=SPACE, baseline=[], sampler=sampler, name=name)
        for name in ("killed", "undisturbed")
    )
    set_param, calls = bench.database.storage._set_trial_param, list[Any]()

    def die_at_the_second(*arguments: Any) -> None:
        calls.append(arguments)
        if len(calls) == 2:
            raise Died
        set_param(*arguments)

    driver = bench.member(spec)
    claimed = claim(bench, spec, driver)
    with monkeypatch.context() as patched:
        patched.setattr(bench.database.storage, "_set_trial_param", die_at_the_second)
        with pytest.raises(Died):
            bench.trials(spec).open(claimed)
    bench.ledger(spec, driver).close(claimed.uid, Outcome.INTERRUPTED)

    _, again = open_next(bench, spec)
    _, expected = open_next(bench, twin)

    assert again.params == expected.params
    assert len(set(again.params.values())) == 3
    (row,) = bench.trials(spec).all()
    assert row.params == again.params


def test_a_result_is_stored_only_with_the_trials_end(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = small_study()
    trials, opened = open_next(bench, spec)

    def die(*_: object, **__: object) -> None:
        raise Died

    with monkeypatch.context() as patched:
        patched.setattr(bench.database.storage, "set_trial_state_values", die)
        with pytest.raises(Died):
            trials.fail(opened, "as it says")

    (row,) = bench.trials(spec).all()
    assert "result" not in row.user_attrs


def test_a_result_that_an_earlier_version_stored_of_an_open_trial_does_not_count(
    bench: Bench,
) -> None:
    spec = small_study()
    _, opened = open_next(bench, spec)
    bench.database.storage.set_trial_user_attr(opened.trial._trial_id, "result", {"error": "old"})

    (row,) = bench.trials(spec).all()

    assert stored_result(row).error == ""


def test_a_trial_that_failed_before_its_first_epoch_has_no_epochs(bench: Bench) -> None:
    spec = small_study()
    trials, opened = open_next(bench, spec)
    opened.trial.report(0.5, step=1)
    trials.tell(opened, failed())

    (shown,) = summarise(spec, bench.trials(spec), bench.ledger(spec)).trials

    assert shown.epochs == 0


def test_what_a_newer_version_stores_of_a_result_is_left_out(bench: Bench) -> None:
    spec = small_study()
    trials, opened = open_next(bench, spec)
    trials.tell(opened, failed(), trainer=TRAINER)
    (row,) = bench.trials(spec).all()
    assert stored_result(row).trainer == TRAINER
    row.user_attrs["result"]["trainer"]["of_a_newer_version"] = row.user_attrs["result"]["too"] = 1
    assert stored_result(row).trainer == TRAINER


def failed() -> TrialResult:
    return TrialResult(
        state=Outcome.FAILED,
        epochs=(),
        best_epoch=None,
        evaluation=None,
        model=None,
        timings=Timings(build_s=0, train_s=0, validation_s=0, total_s=0),
        peak_memory_mb=0,
    )
