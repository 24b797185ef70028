"""Which parameters matter, by Optuna's default evaluator, PED-ANOVA."""

import time
from collections.abc import Callable
from importlib import import_module

import optuna

_EVERY_S = 30.0
_SHARE = 0.01
"""How much of a driver's time importance may take."""

Importance = dict[str, float]
"""The share of the objective's variance that each parameter explains, the largest first."""


def importance_of(study: optuna.Study) -> Importance:
    """What the completed trials of a study tell, two or more with different values."""
    return dict(optuna.importance.get_param_importances(study))


def load() -> None:
    """Imports what `importance_of` needs, scikit-learn among it: two seconds, once a process."""
    import_module("optuna.importance")


class PacedImportance:
    """Asks for importance now and then, so that its cost, which grows with trials, does not show.

    Half a minute apart, or a hundred times what the last answer took.
    """

    def __init__(self, ask: Callable[[], Importance]) -> None:
        self._ask = ask
        self._next = 0.0

    def if_due(self) -> Importance:
        """The importance, or nothing when it was asked for lately or is not known yet."""
        began = time.monotonic()
        if began < self._next:
            return {}
        found = self._ask()
        ended = time.monotonic()
        if found:
            self._next = ended + max(_EVERY_S, (ended - began) / _SHARE)
        return found
