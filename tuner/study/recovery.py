"""Finishes what drivers that died on this machine had left open."""

from optuna.trial import TrialState

from tuner.home import Home
from tuner.study.journal import Journal
from tuner.study.ledger import Attempt, Ledger
from tuner.study.processes import this_process
from tuner.study.trials import Trials
from tuner.tracking.events import Outcome

_OUTCOMES: dict[TrialState, Outcome] = {
    TrialState.COMPLETE: "completed",
    TrialState.PRUNED: "pruned",
    TrialState.FAIL: "failed",
}


def recover(home: Home, study: str, trials: Trials, ledger: Ledger, journal: Journal) -> int:
    """Closes every open attempt whose driver is gone; returns how many were handed back.

    Whoever calls holds the home's driver lock.

    An attempt whose row was told ended as the row says; any other hands its slot back.
    """
    rows = trials.by_slot()
    abandoned = [attempt for attempt in ledger.attempts() if is_abandoned(home, study, attempt)]
    handed_back = 0
    for attempt in abandoned:
        row = rows.get(attempt.slot)
        told = None if row is None else _OUTCOMES.get(row.state)
        outcome: Outcome = told or "interrupted"
        folder = home.attempt(study, attempt.slot, attempt.number)
        journal.attempt_ended(folder, outcome, None, "its driver died")
        ledger.close(attempt.uid, outcome)
        handed_back += told is None
    return handed_back


def is_abandoned(home: Home, study: str, attempt: Attempt) -> bool:
    """Whether nobody works on an open attempt, asked while no driver of this home runs.

    An attempt whose folder lies in this home was made here, whatever the host was called
    then: a container's name changes with every start.
    """
    if attempt.outcome is not None:
        return False
    owner = attempt.owner
    made_here = home.attempt(study, attempt.slot, attempt.number).exists()
    return made_here or owner.is_gone() or owner == this_process()
