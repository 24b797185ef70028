"""A trainer waits for the driver's word on an epoch, and only for so long."""

import threading

import pytest

from tests.workers.conftest import LONGEST_S, PlanMaker
from tuner.workers.messages import Proceed, Prune
from tuner.workers.trainer import Verdicts


@pytest.mark.parametrize("pruned", [True, False], ids=["prune", "proceed"])
def test_a_verdict_ends_the_wait(make_plan: PlanMaker, pruned: bool) -> None:
    plan, verdicts = make_plan(), Verdicts()
    waiting = threading.Thread(target=verdicts.wait, args=(plan, 2, 100 * LONGEST_S))
    waiting.start()
    verdicts.hear(Proceed(slot=plan.slot, attempt=plan.attempt, epoch=1))
    verdicts.hear(Prune(slot=plan.slot + 1, attempt=plan.attempt))
    assert waiting.is_alive(), "what is said of another epoch or trial is no verdict"
    if pruned:
        verdicts.hear(Prune(slot=plan.slot, attempt=plan.attempt))
    else:
        verdicts.hear(Proceed(slot=plan.slot, attempt=plan.attempt, epoch=2))
    waiting.join(LONGEST_S)
    assert not waiting.is_alive()
    assert verdicts.is_pruned(plan) is pruned


def test_a_verdict_that_came_before_is_not_waited_for(make_plan: PlanMaker) -> None:
    plan, verdicts = make_plan(), Verdicts()
    verdicts.hear(Proceed(slot=plan.slot, attempt=plan.attempt, epoch=1))
    waiting = threading.Thread(target=verdicts.wait, args=(plan, 1, 100 * LONGEST_S))
    waiting.start()
    waiting.join(LONGEST_S)
    assert not waiting.is_alive()


def test_without_a_verdict_the_wait_ends_all_the_same(make_plan: PlanMaker) -> None:
    plan, verdicts = make_plan(), Verdicts()
    verdicts.wait(plan, 1, timeout_s=0.01)
    assert not verdicts.is_pruned(plan)
