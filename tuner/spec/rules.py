"""The rules between the entries of a study file. Each entry is valid by itself already."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from pydantic import ValidationInfo

from tuner.spec.names import LONGEST_PARAMETER_NAME, is_parameter_name
from tuner.spec.objective import SELECTION_METRICS, TRAINING_METRICS
from tuner.spec.recipe import recipe_problem
from tuner.spec.samplers import Grid, NoPruner, SuccessiveHalving
from tuner.spec.search_space import ChoiceDomain, Domain, FloatDomain, IntDomain, Scalar
from tuner.spec.section import Location, Problem, broken, is_stored, shown

if TYPE_CHECKING:
    from tuner.spec.study_spec import Claim, StudySpec

LONGEST_VALUE = 6000
"""MLflow's MAX_PARAM_VAL_LENGTH. It truncates longer values, which could make two equal."""
MOST_GRID_POINTS = 100_000
"""The points of a grid are enumerated in memory."""


def checked_space(
    space: Mapping[str, Domain | Scalar], info: ValidationInfo
) -> Mapping[str, Domain | Scalar]:
    """Returns `space` if all its names and values are valid.

    Raises:
        ValidationError: all invalid names and values.
    """
    lengths = [] if is_stored(info) else _length_problems(space)
    problems = [*_name_problems(space), *lengths, *_recipe_problems(space)]
    if problems:
        raise broken(*problems)
    return space


def study_problems(spec: StudySpec) -> Iterator[Problem]:
    """Yields all broken rules between entries."""
    yield from _objective_problems(spec)
    yield from _baseline_problems(spec)
    yield from _budget_problems(spec)
    yield from _idle_problems(spec)
    yield from _race_problems(spec)
    yield from _claim_problems(spec)


def _claim_problems(spec: StudySpec) -> Iterator[Problem]:
    """Yields what keeps the claims from being decided."""
    if not spec.claims:
        return
    if not spec.validation:
        yield Problem(("claims",), "need validation images to compare points on, got validation: 0")
    if spec.confirmation is None:
        yield Problem(("claims",), "are decided by the confirmation, got confirmation: off")
    if not spec.baseline:
        yield Problem(("claims",), "change the first baseline point, got no baseline")
    if spec.race is not None and spec.race.against is None:
        yield Problem(("race", "against"), "is required with claims")
    names = [claim.name for claim in spec.claims]
    for index, claim in enumerate(spec.claims):
        at = ("claims", index)
        if claim.name in names[:index]:
            yield Problem((*at, "name"), f"must differ, got {shown(claim.name)} twice")
        if claim.metric not in (None, spec.objective.metric) and claim.margin is None:
            rule = f"is required for {claim.metric}; the confirmation's is for"
            yield Problem((*at, "margin"), f"{rule} {spec.objective.metric}")
        yield from _pair_problems(spec, claim, at)


def _pair_problems(spec: StudySpec, claim: Claim, at: Location) -> Iterator[Problem]:
    """Yields what keeps a claim's two points from being compared."""
    for side, point in (("better", claim.better), ("than", claim.than)):
        for name, value in point.items():
            if name == "patience":
                yield Problem((*at, side, name), "a race trains a fixed number of epochs")
            elif rule := spec.value_problem(name, value):
                yield Problem((*at, side, name), rule)
    base = spec.baseline[0] if spec.baseline else {}
    for name in sorted(claim.better.keys() ^ claim.than.keys()):
        if name in spec.domains and name not in base and spec.baseline:
            rule = f"must state {name}, which {shown(claim.name)} changes on one side alone"
            yield Problem(("baseline", 0), rule)
    if {**base, **claim.better} == {**base, **claim.than}:
        yield Problem(at, "must compare two different points, got the same twice")


def _race_problems(spec: StudySpec) -> Iterator[Problem]:
    """Yields what keeps a race from training each of its points, and all to the end."""
    if spec.race is None:
        return
    if len(spec.baseline) < spec.trials:
        rule = f"must state each point of a race, {spec.trials}, got {len(spec.baseline)}"
        yield Problem(("baseline",), rule)
    for index, point in enumerate(spec.baseline):
        if missing := ", ".join(spec.domains.keys() - point.keys()):
            yield Problem(("baseline", index), f"must be a whole point in a race, lacks {missing}")
    if not isinstance(spec.pruner, NoPruner):
        yield Problem(("pruner",), f"must be none in a race, got {spec.pruner.type}")
    if spec.seeds != 1:
        yield Problem(("seeds",), f"must be left out in a race, got {spec.seeds}")
    if spec.race.against is not None and spec.race.against >= spec.trials:
        rule = f"must be one of the {spec.trials} points, from 0, got {spec.race.against}"
        yield Problem(("race", "against"), rule)
    elif spec.race.claimed >= spec.trials - (spec.race.against or 0):
        rule = f"must leave the baseline of the {spec.trials} points, got {spec.race.claimed}"
        yield Problem(("race", "claimed"), rule)


def _idle_problems(spec: StudySpec) -> Iterator[Problem]:
    """Yields settings that have no effect."""
    if spec.search_space.get("patience") is not None and not spec.validation:
        yield Problem(("search_space", "patience"), "needs a validation split, got validation: 0")
    least = getattr(spec.pruner, "min_resource", 1)
    if least > spec.epochs and spec.pruner != SuccessiveHalving():  # the default fits any study
        rule = f"must be <= epochs ({spec.epochs}), or nothing is ever pruned"
        yield Problem(("pruner", "min_resource"), f"{rule}, got {least}")


def _name_problems(space: Mapping[str, Domain | Scalar]) -> Iterator[Problem]:
    for name in space:
        if not is_parameter_name(name):
            rule = "must be a parameter name of letters, digits and '_'"
            yield Problem((), f"{rule}, got {shown(name)}")


def _length_problems(space: Mapping[str, Domain | Scalar]) -> Iterator[Problem]:
    for name in space:
        if len(name) > LONGEST_PARAMETER_NAME:
            rule = f"a parameter's name must have at most {LONGEST_PARAMETER_NAME} characters"
            yield Problem((), f"{rule}, got {len(name)}: {shown(name)}")
    for name, entry in space.items():
        longest = max(len(str(value)) for _, _, value in _extremes(entry))
        if longest > LONGEST_VALUE:
            rule = f"a value must have at most {LONGEST_VALUE} characters, which MLflow stores"
            yield Problem((name,), f"{rule}, got {longest}")


def _recipe_problems(space: Mapping[str, Domain | Scalar]) -> Iterator[Problem]:
    for name, entry in space.items():
        for at, lead, value in _extremes(entry):
            if rule := recipe_problem(name, value):
                yield Problem((name, *at), f"{lead}{rule}")


def _extremes(entry: Domain | Scalar) -> Iterator[tuple[tuple[str, ...], str, Scalar]]:
    """Yields the values that decide whether all values of an entry are valid.

    Each comes with its location in the entry, and the start of the message.
    """
    if isinstance(entry, FloatDomain | IntDomain):
        yield ("low",), "", entry.low
        yield ("high",), "", entry.high
    elif isinstance(entry, ChoiceDomain):
        yield from (((), "choices ", choice) for choice in entry.choices)
    else:
        yield (), "", entry


def _objective_problems(spec: StudySpec) -> Iterator[Problem]:
    known = SELECTION_METRICS if spec.validation else TRAINING_METRICS
    if spec.objective.metric not in known:
        usual = "val_accuracy" if spec.validation else "accuracy"
        rule = f"with validation: {spec.validation} must be one of {', '.join(known)}"
        got = f"got {shown(spec.objective.metric)}; write objective: {usual}"
        yield Problem(("objective", "metric"), f"{rule}, {got}")


def _baseline_problems(spec: StudySpec) -> Iterator[Problem]:
    for index, point in enumerate(spec.baseline):
        for name, value in point.items():
            if rule := spec.value_problem(name, value):
                yield Problem(("baseline", index, name), rule)


def _budget_problems(spec: StudySpec) -> Iterator[Problem]:
    if isinstance(spec.sampler, Grid):
        yield from _grid_problems(spec)
    elif spec.domains and "trials" not in spec.model_fields_set:
        yield Problem(("trials",), "is required when something is searched")
        return
    if len(spec.baseline) > spec.trials:
        rule = f"must cover the {len(spec.baseline)} baseline points, got {spec.trials}"
        yield Problem(("trials",), rule)


def _grid_problems(spec: StudySpec) -> Iterator[Problem]:
    for name, domain in spec.domains.items():
        if domain.count() is None:
            yield Problem(("search_space", name), "a grid needs a step or choices, got neither")
    size = spec.grid_size()
    if size is None:
        return
    if size > MOST_GRID_POINTS:
        rule = f"a grid may have at most {MOST_GRID_POINTS} points, got {size}"
        yield Problem(("search_space",), rule)
    elif spec.trials > size:
        yield Problem(("trials",), f"the grid has {size} points, got {spec.trials}")
