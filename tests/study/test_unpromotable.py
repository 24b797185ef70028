"""What is known not to be promotable is marked."""

from collections.abc import Callable

import pytest

from tests.study.conftest import Bench, ScriptedPool
from tuner.cli.run_study import _say_what_is_next
from tuner.cli.show import print_summary
from tuner.spec.study import StudySpec
from tuner.workers.pool import Finished, PoolEvent


class Unpromotable(ScriptedPool):
    """A pool whose networks train, and cannot be promoted from the second trial on."""

    def next_event(self, timeout_s: float) -> PoolEvent | None:
        event = super().next_event(timeout_s)
        if isinstance(event, Finished) and event.plan.slot:
            result = event.result.model_copy(update={"unpromotable": "it has a Lambda layer"})
            return Finished(event.plan, result)
        return event


@pytest.mark.parametrize("best_slot", [0, 1])
def test_what_cannot_be_promoted_is_marked_and_not_suggested(
    best_slot: int,
    bench: Bench,
    study_spec: Callable[..., StudySpec],
    capsys: pytest.CaptureFixture[str],
) -> None:
    pool = Unpromotable(curve=lambda plan, _: 0.9 if plan.slot == best_slot else 0.5)
    summary = bench.run(study_spec(trials=3), pool)
    assert [trial.unpromotable for trial in summary.trials] == ["", *["it has a Lambda layer"] * 2]

    print_summary(summary)
    _say_what_is_next(summary)

    told = capsys.readouterr()
    assert "* cannot be promoted: it has a Lambda layer (trials 1, 2)" in told.out
    assert told.out.count("completed *") == 2
    assert ("promote best" in told.err) is (best_slot == 0)
    assert ("trial 1, the best, cannot be promoted: it has" in told.err) is (best_slot == 1)
