"""What the driver has said of the trial in training: go on, or stop."""

import threading

from tuner.training.plan import TrialPlan
from tuner.workers.messages import Proceed, Prune


class Verdicts:
    """Heard by one thread, waited for by another."""

    def __init__(self) -> None:
        self._heard = threading.Condition()
        self._pruned: set[tuple[int, int]] = set()
        self._proceeded: tuple[int, int, int] | None = None

    def hear(self, verdict: Prune | Proceed) -> None:
        """Keeps what the driver said."""
        with self._heard:
            if isinstance(verdict, Prune):
                self._pruned.add((verdict.slot, verdict.attempt))
            else:
                self._proceeded = (verdict.slot, verdict.attempt, verdict.epoch)
            self._heard.notify_all()

    def wait(self, plan: TrialPlan, epoch: int, timeout_s: float) -> None:
        """Waits until the driver has decided on an epoch of the plan, for so long at most."""
        with self._heard:
            self._heard.wait_for(
                lambda: self._proceeded == (plan.slot, plan.attempt, epoch) or self.is_pruned(plan),
                timeout_s,
            )

    def is_pruned(self, plan: TrialPlan) -> bool:
        """Whether the driver wants the plan to stop."""
        return (plan.slot, plan.attempt) in self._pruned
