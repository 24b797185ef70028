"""A point of the search space from a command line: `learning_rate=0.001`."""

from collections.abc import Sequence

from tuner.errors import UsageError
from tuner.spec.problems import shown
from tuner.spec.search_space import FloatDomain, Scalar
from tuner.spec.study import StudySpec
from tuner.spec.yaml_text import load


def point_from_text(assignments: Sequence[str], spec: StudySpec) -> dict[str, Scalar]:
    """Reads `name=value` pairs as a point, complete or not, of the study's search space.

    A whole number becomes a float where the parameter is one.

    Raises:
        UsageError: all that is wrong with them.
    """
    pairs = [_assignment(text) for text in assignments]
    point = {name: _typed(name, value, spec) for name, value in pairs}
    problems = spec.point_problems(point)
    if len(point) < len(pairs):
        names = [name for name, _ in pairs]
        repeated = next(name for name in names if names.count(name) > 1)
        problems.append(f"{repeated}: is given twice")
    if problems:
        raise UsageError("\n".join(problems))
    return point


def _assignment(text: str) -> tuple[str, Scalar]:
    name, equals, stated = text.partition("=")
    if not equals or not name.strip():
        raise UsageError(f"{text}: must be name=value, such as learning_rate=0.001")
    value = load(stated, text)
    if not isinstance(value, Scalar):
        raise UsageError(f"{text}: must be a number, text or true/false, got {shown(value)}")
    return name.strip(), value


def _typed(name: str, value: Scalar, spec: StudySpec) -> Scalar:
    real = isinstance(spec.search_space.get(name), FloatDomain)
    return float(value) if real and type(value) is int else value
