"""Gates: the limits that a candidate must keep, checked by a pure function."""

from collections.abc import Mapping

from tuner.spec.section import Frozen
from tuner.spec.study_spec import Gates

_LOWER_LIMITS = frozenset({"test_accuracy", "macro_recall", "worst_recall"})
_FIGURES = {
    "macro_recall": "test_recall",
    "worst_recall": "test_worst_recall",
    "champion_margin": "champion_possible_loss",
    "better_than_champion": "champion_p_better",
}
"""The figures of the gates that have other names than theirs."""
_AGAINST_CHAMPION = frozenset({"champion_margin", "better_than_champion"})
LEVEL = 0.05
"""The chance with which a gate against the champion lets a model pass that it should stop."""


class GateResult(Frozen):
    """The result of one gate."""

    name: str
    passed: bool
    value: float
    limit: float

    @property
    def shortfall(self) -> float:
        """The distance by which the value misses the limit, in the gate's unit; 0 if it passed."""
        return 0.0 if self.passed else abs(self.value - self.limit)

    @property
    def against_champion(self) -> bool:
        """Whether it compares with the champion, and is left out where there is none."""
        return self.name in _AGAINST_CHAMPION


def check(figures: Mapping[str, float], gates: Gates) -> tuple[GateResult, ...]:
    """Checks the figures against the gates of the study, in the order of the spec.

    A gate without a figure so far is left out. A value at its limit passes; NaN does not.
    """
    return tuple(
        _result(name, figures[figure], limit)
        for name, requirement in gates
        if (limit := _limit(requirement)) is not None
        and (figure := _FIGURES.get(name, name)) in figures
    )


def _limit(requirement: float | bool | None) -> float | None:
    if isinstance(requirement, bool):
        return LEVEL if requirement else None
    return requirement


def _result(name: str, value: float, limit: float) -> GateResult:
    passed = value >= limit if name in _LOWER_LIMITS else value <= limit
    return GateResult(name=name, passed=passed, value=value, limit=limit)
