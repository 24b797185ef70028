"""Gates: the limits that a candidate must keep, checked by a pure function."""

from collections.abc import Mapping

from tuner.spec.section import Frozen
from tuner.spec.study_spec import Gates

_LOWER_LIMITS = frozenset({"test_accuracy"})


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


def check(figures: Mapping[str, float], gates: Gates) -> tuple[GateResult, ...]:
    """Checks the figures against the gates of the study, in the order of the spec.

    A gate without a figure so far is left out. A value at its limit passes; NaN does not.
    """
    return tuple(
        _result(name, figures[name], limit)
        for name, limit in gates
        if limit is not None and name in figures
    )


def _result(name: str, value: float, limit: float) -> GateResult:
    passed = value >= limit if name in _LOWER_LIMITS else value <= limit
    return GateResult(name=name, passed=passed, value=value, limit=limit)
