"""Reads `--set key=value` and `name=value` arguments, and applies them to a study file."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tuner.errors import UsageError
from tuner.spec.search_space import FloatDomain, Scalar
from tuner.spec.section import Problem, shown
from tuner.spec.study_spec import StudySpec
from tuner.spec.text.yaml import load


def point_from_text(assignments: Sequence[str], spec: StudySpec) -> dict[str, Scalar]:
    """Reads `name=value` arguments as a point of the search space, which may be partial.

    A whole number becomes a float if the parameter is a float.

    Raises:
        UsageError: an argument is invalid; lists all problems.
        SpecError: a value is not YAML.
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


_SHORT_FORMS = {"dataset": "name", "objective": "metric", "pruner": "type", "sampler": "type"}
"""For each entry with a short form: the key that the short form states."""

_INDEX = re.compile(r"\[(\d+)\]")


@dataclass(frozen=True)
class Override:
    """One `--set`: the path of the entry, and its new value."""

    text: str
    path: tuple[str, ...]
    value: object

    @property
    def flag(self) -> str:
        """The option as typed."""
        return f"--set {self.text}"

    def concerns(self, problem: Problem) -> bool:
        """Whether the problem is at this entry, above it or below it."""
        return bool(problem.at) and all(
            own == str(part) for own, part in zip(self.path, problem.at, strict=False)
        )


def parse_override(text: str) -> Override:
    """Reads `objective.metric=val_loss` or `baseline[0].dropout_rate=0.4`.

    Raises:
        UsageError: there is no `=`, or a part of the path is empty.
        SpecError: the value is not YAML.
    """
    key, equals, value = text.partition("=")
    path = tuple(_INDEX.sub(r".\1", key.strip()).split("."))
    if not equals or not all(path):
        raise UsageError(f"--set {text}: must be key=value, such as --set epochs=3")
    return Override(text, path, load(value, f"--set {text}"))


def overridden(document: object, overrides: Sequence[Override]) -> object:
    """Returns a copy of `document` with the overrides applied in order.

    Another sampler, pruner, data set or metric replaces the whole entry, because its other keys
    belonged to the old one. Validation reports unknown keys.

    Raises:
        UsageError: a list has no such index.
    """
    for override in overrides:
        if isinstance(document, dict):
            document = _replaced(_expanded(document, override.path), override.path, override)
    return document


def _expanded(document: dict[str, Any], path: tuple[str, ...]) -> dict[str, Any]:
    head = path[0]
    short = _SHORT_FORMS.get(head)
    if short is None or len(path) == 1:
        return document
    stated = document.get(head)
    if path[1:] == (short,):
        return {**document, head: {}}
    return {**document, head: {short: stated}} if isinstance(stated, str) else document


def _replaced(node: object, path: tuple[str, ...], override: Override) -> Any:
    if not path:
        return override.value
    head, rest = path[0], path[1:]
    if isinstance(node, list):
        index = _index(head, len(node), override)
        return [*node[:index], _replaced(node[index], rest, override), *node[index + 1 :]]
    entries = node if isinstance(node, dict) else {}
    return {**entries, head: _replaced(entries.get(head), rest, override)}


def _index(part: str, length: int, override: Override) -> int:
    if not part.isdecimal() or int(part) >= length:
        raise UsageError(
            f"{override.flag}: {part!r} must be an index of a list of {length}, counted from 0"
        )
    return int(part)
