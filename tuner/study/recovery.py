"""Finishes what drivers that died on this machine had left open."""

from optuna.trial import TrialState

from tuner.home import Home
from tuner.study.journal import Journal
from tuner.study.ledger import Attempt, Ledger
from tuner.study.trials import Trials
from tuner.tracking.events import Outcome

_OUTCOMES: dict[TrialState, Outcome] = {
    TrialState.COMPLETE: "completed",
    TrialState.PRUNED: "pruned",
    TrialState.FAIL: "failed",
}


def recover(home: Home, study: str, trials: Trials, ledger: Ledger, journal: Journal) -> int:
    """Closes every open attempt whose driver is gone; returns how many were handed back.

    An attempt whose row was told ended as the row says; any other hands its slot back.
    """
    rows = trials.by_slot()
    abandoned = [attempt for attempt in ledger.attempts() if _is_abandoned(attempt)]
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


def _is_abandoned(attempt: Attempt) -> bool:
    return attempt.outcome is None and attempt.owner.is_gone()
