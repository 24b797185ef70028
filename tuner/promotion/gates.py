"""Gates: what a candidate must reach. Pure: figures and limits in, results out."""

from collections.abc import Mapping

from tuner.spec.section import Frozen
from tuner.spec.study_spec import Gates

_LOWER_LIMITS = frozenset({"test_accuracy"})


class GateResult(Frozen):
    """One gate held against its value."""

    name: str
    passed: bool
    value: float
    limit: float

    @property
    def shortfall(self) -> float:
        """By how much the value misses the limit, in the gate's own unit; 0 when it passed."""
        return 0.0 if self.passed else abs(self.value - self.limit)


def check(figures: Mapping[str, float], gates: Gates) -> tuple[GateResult, ...]:
    """Holds the figures against the gates that the study states, in the spec's order.

    A gate whose figure is not there yet is left out. A value at its limit passes; a value that
    is not a number does not.
    """
    return tuple(
        _result(name, figures[name], limit)
        for name, limit in gates
        if limit is not None and name in figures
    )


def _result(name: str, value: float, limit: float) -> GateResult:
    passed = value >= limit if name in _LOWER_LIMITS else value <= limit
    return GateResult(name=name, passed=passed, value=value, limit=limit)
