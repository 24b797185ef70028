"""Which parameters matter: Optuna's PED-ANOVA, imported in milliseconds."""

import sys
import time
from collections.abc import Callable
from functools import cache
from importlib import import_module
from typing import cast

import optuna

_EVERY_S = 30.0
_SHARE = 0.01
"""How much of a driver's time importance may take."""

Importance = dict[str, float]
"""The share of the objective's variance that each parameter explains, the largest first."""


def importance_of(study: optuna.Study) -> Importance:
    """What the completed trials of a study tell, two or more with different values."""
    return dict(_evaluate()(study))


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


@cache
def _evaluate() -> Callable[[optuna.Study], Importance]:
    """Optuna's function, from a copy of its package that knows no scikit-learn.

    Evaluators that we do not use import scikit-learn, and with it pandas: two seconds and
    100 MB. Optuna makes do where that is missing, so it is missing while the copy is imported;
    whoever imports the package after that gets a whole one.
    """
    if "sklearn" in sys.modules:
        return optuna.importance.get_param_importances
    package = "optuna.importance"
    known = {name: sys.modules.pop(name) for name in list(sys.modules) if name.startswith(package)}
    attribute = optuna.importance
    sys.modules["sklearn"] = None  # type: ignore[assignment]
    try:
        found = import_module(package).get_param_importances
    finally:
        for name in [name for name in sys.modules if name.startswith(package)]:
            del sys.modules[name]
        del sys.modules["sklearn"]
        sys.modules.update(known)
        optuna.importance = attribute
    return cast("Callable[[optuna.Study], Importance]", found)
