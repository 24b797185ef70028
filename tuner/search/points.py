"""The point and the seed of each slot. Pure functions of the study file.

Slot `s` trains point `s // seeds` with replicate `s % seeds`. In a race it is the other way round:
the slots of the first replicates come first. Equal replicates of all points have the same seed, so
that points can be compared in pairs.
"""

import itertools
from collections.abc import Mapping

import numpy as np

from tuner.spec.samplers import Grid
from tuner.spec.search_space import FloatDomain, Scalar
from tuner.spec.study_spec import StudySpec


def point_of(spec: StudySpec, slot: int) -> int:
    """Returns the number of the slot's point."""
    return slot // spec.seeds if spec.race is None else slot % spec.trials


def replicate_of(spec: StudySpec, slot: int) -> int:
    """Returns which of its point's trainings the slot is, from 0. In a race it is the block."""
    return slot % spec.seeds if spec.race is None else slot // spec.trials


def slots_of(spec: StudySpec, point: int) -> range:
    """Returns the slots of a point, in order."""
    if spec.race is None:
        return range(point * spec.seeds, (point + 1) * spec.seeds)
    return range(point, spec.slots, spec.trials)


def leader(spec: StudySpec, slot: int) -> int:
    """Returns the first slot of the slot's point. The others copy its parameters."""
    return slots_of(spec, point_of(spec, slot))[0]


def leads(spec: StudySpec, slot: int) -> bool:
    """Whether the slot is the first of its point."""
    return slot == leader(spec, slot)


def trial_seed(spec: StudySpec, slot: int) -> int:
    """Returns the seed of the slot's weights, shuffling and dropout, in [0, 2**32)."""
    replicate = slot if spec.replicates == 1 else replicate_of(spec, slot)
    return _mixed(spec.seed, 0, replicate)


def split_seed(spec: StudySpec, slot: int) -> int:
    """Returns the seed that chooses the slot's validation rows; each block of a race has its own.

    So the race counts what the choice of validation rows adds to the noise.
    """
    return spec.seed if spec.race is None else _mixed(spec.seed, 3, replicate_of(spec, slot))


def claimed_points(spec: StudySpec) -> list[tuple[dict[str, Scalar], dict[str, Scalar]]]:
    """Returns the searched parameters of the two points of each claim of a study with a baseline.

    What a claim leaves out is as in the baseline: the first one, or that of a race.
    """
    number = (spec.race.against or 0) if spec.race else 0
    base = searched(spec, dict(spec.baseline[number])) if spec.baseline else {}
    return [
        (
            {**base, **searched(spec, dict(claim.better))},
            {**base, **searched(spec, dict(claim.than))},
        )
        for claim in spec.claims
    ]


def sampler_seed(spec: StudySpec, slot: int) -> int:
    """Returns the seed with which the slot's point is sampled, in [0, 2**32)."""
    return _mixed(spec.seed, 1, point_of(spec, slot))


def confirmation_seed(spec: StudySpec) -> int:
    """Returns the seed of the study's confirmation, whose trainings are all fresh."""
    return _mixed(spec.seed, 4, 0)


def refit_seed(spec: StudySpec) -> int:
    """Returns the seed of the study's refits, which is fixed before anything is trained."""
    return _mixed(spec.seed, 5, 0)


def takes_queued(spec: StudySpec, slot: int) -> bool:
    """Whether the slot takes a queued configuration, if there is one."""
    stated = point_of(spec, slot) < len(spec.baseline) or isinstance(spec.sampler, Grid)
    return leads(spec, slot) and not stated


def stated_points(spec: StudySpec) -> list[dict[str, Scalar]]:
    """Returns the points that the study file states, in order: baseline or grid. May be partial."""
    baseline = [searched(spec, dict(point)) for point in spec.baseline]
    return _grid(spec, baseline) if isinstance(spec.sampler, Grid) else baseline


def stated_point(
    spec: StudySpec, slot: int, begun: Mapping[int, dict[str, Scalar]]
) -> dict[str, Scalar]:
    """Returns the stated parameters of a new slot's point; empty if the sampler chooses them all.

    The new slots of a grid take the points that no trial has, in order. So each gets the same
    point whichever other slots have begun meanwhile, and drivers need no coordination. It also
    works if an earlier version of tuner began the study in another order.

    Args:
        spec: the study.
        slot: a slot without a trial.
        begun: the parameters of each slot that has a trial.
    """
    stated, point = stated_points(spec), point_of(spec, slot)
    if isinstance(spec.sampler, Grid):
        trained = {_values(spec, params) for params in begun.values()}
        stated = [each for each in stated if _values(spec, each) not in trained]
        point -= sum(leads(spec, each) and each < slot for each in begun)
    return stated[point] if point < len(stated) else {}


def searched(spec: StudySpec, point: dict[str, Scalar]) -> dict[str, Scalar]:
    """Returns the searched part of a point, with floats as exact decimals."""
    return {
        name: domain.exact(float(value)) if isinstance(domain, FloatDomain) else value
        for name, value in point.items()
        if (domain := spec.domains.get(name)) is not None
    }


def _grid(spec: StudySpec, baseline: list[dict[str, Scalar]]) -> list[dict[str, Scalar]]:
    """Returns every point of the grid once: the baseline's points, then the others, shuffled.

    A partial baseline stands for the first point that matches it and is not taken yet. A baseline
    without such a point is left out.
    """
    names = list(spec.domains)
    axes = [spec.domains[name].grid() or () for name in names]
    others = [dict(zip(names, values, strict=True)) for values in itertools.product(*axes)]
    first = []
    for stated in baseline:
        if point := next((each for each in others if stated.items() <= each.items()), None):
            others.remove(point)
            first.append(point)
    order = np.random.default_rng((spec.seed, 2)).permutation(len(others))
    return first + [others[index] for index in order]


def _values(spec: StudySpec, point: dict[str, Scalar]) -> tuple[Scalar | None, ...]:
    """Returns a key that is equal for equal points of a grid."""
    values = searched(spec, point)
    return tuple(values.get(name) for name in spec.domains)


def _mixed(seed: int, purpose: int, index: int) -> int:
    return int(np.random.SeedSequence((seed, purpose, index)).generate_state(1)[0])
