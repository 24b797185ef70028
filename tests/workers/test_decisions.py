"""A trainer waits for the driver's word on an epoch, and only for so long."""

import threading

import pytest

from tests.workers.conftest import LONGEST_S, PlanMaker
from tuner.workers.messages import Proceed, Prune
from tuner.workers.trainer import Decisions


@pytest.mark.parametrize("pruned", [True, False], ids=["prune", "proceed"])
def test_a_verdict_ends_the_wait(make_plan: PlanMaker, pruned: bool) -> None:
    plan, decisions = make_plan(), Decisions()
    waiting = threading.Thread(target=decisions.wait, args=(plan, 2, 100 * LONGEST_S))
    waiting.start()
    decisions.receive(Proceed(slot=plan.slot, attempt=plan.attempt, epoch=1))
    decisions.receive(Prune(slot=plan.slot + 1, attempt=plan.attempt))
    assert waiting.is_alive(), "what is said of another epoch or trial is no verdict"
    if pruned:
        decisions.receive(Prune(slot=plan.slot, attempt=plan.attempt))
    else:
        decisions.receive(Proceed(slot=plan.slot, attempt=plan.attempt, epoch=2))
    waiting.join(LONGEST_S)
    assert not waiting.is_alive()
    assert decisions.is_pruned(plan) is pruned


def test_a_verdict_that_came_before_is_not_waited_for(make_plan: PlanMaker) -> None:
    plan, decisions = make_plan(), Decisions()
    decisions.receive(Proceed(slot=plan.slot, attempt=plan.attempt, epoch=1))
    waiting = threading.Thread(target=decisions.wait, args=(plan, 1, 100 * LONGEST_S))
    waiting.start()
    waiting.join(LONGEST_S)
    assert not waiting.is_alive()


def test_without_a_verdict_the_wait_ends_all_the_same(make_plan: PlanMaker) -> None:
    plan, decisions = make_plan(), Decisions()
    decisions.wait(plan, 1, timeout_s=0.01)
    assert not decisions.is_pruned(plan)
