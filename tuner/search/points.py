"""Which point and which seed belong to a slot. Pure functions of the study file.

Slot `s` trains point `s // seeds` with replicate `s % seeds`. The replicates of all points
share their seeds, so that points can be compared pairwise.
"""

import itertools
from collections.abc import Mapping

import numpy as np

from tuner.spec.samplers import Grid
from tuner.spec.search_space import FloatDomain, Scalar
from tuner.spec.study_spec import StudySpec


def point_of(spec: StudySpec, slot: int) -> int:
    """The number of the slot's point."""
    return slot // spec.seeds


def leader(spec: StudySpec, slot: int) -> int:
    """The first slot of the slot's point, whose parameters the others copy."""
    return slot - slot % spec.seeds


def leads(spec: StudySpec, slot: int) -> bool:
    """Whether the slot is the first of its point."""
    return slot == leader(spec, slot)


def trial_seed(spec: StudySpec, slot: int) -> int:
    """What the slot's weights, shuffling and dropout are drawn from, in [0, 2**32)."""
    replicate = slot if spec.seeds == 1 else slot % spec.seeds
    return _mixed(spec.seed, 0, replicate)


def sampler_seed(spec: StudySpec, slot: int) -> int:
    """What the slot's point is drawn from, in [0, 2**32)."""
    return _mixed(spec.seed, 1, point_of(spec, slot))


def takes_queued(spec: StudySpec, slot: int) -> bool:
    """Whether the slot's point comes from the line of waiting ones, if any waits."""
    stated = point_of(spec, slot) < len(spec.baseline) or isinstance(spec.sampler, Grid)
    return leads(spec, slot) and not stated


def stated_points(spec: StudySpec) -> list[dict[str, Scalar]]:
    """What the study file says of each point that it says anything of, in order."""
    baseline = [searched(spec, dict(point)) for point in spec.baseline]
    return _grid(spec, baseline) if isinstance(spec.sampler, Grid) else baseline


def stated_point(
    spec: StudySpec, slot: int, begun: Mapping[int, dict[str, Scalar]]
) -> dict[str, Scalar]:
    """What the study file itself says of a new slot's point: its baseline or its place in the grid.

    Empty when the sampler decides; may be partial. `begun` are the points of the slots that have
    a row. The slots of a grid that have none share, in order, the points that no row has: an
    earlier version may have begun others than this one would have. Each row that is made so
    leaves the shares of the others as they were, so drivers need not see one another's.
    """
    stated, point = stated_points(spec), point_of(spec, slot)
    if isinstance(spec.sampler, Grid):
        trained = {_values(spec, params) for params in begun.values()}
        stated = [each for each in stated if _values(spec, each) not in trained]
        point -= sum(leads(spec, each) and each < slot for each in begun)
    return stated[point] if point < len(stated) else {}


def searched(spec: StudySpec, point: dict[str, Scalar]) -> dict[str, Scalar]:
    """The part of a point that the search space leaves open, floats as the exact decimals."""
    return {
        name: domain.exact(float(value)) if isinstance(domain, FloatDomain) else value
        for name, value in point.items()
        if (domain := spec.domains.get(name)) is not None
    }


def _grid(spec: StudySpec, baseline: list[dict[str, Scalar]]) -> list[dict[str, Scalar]]:
    """Every point of the grid once: those of the baseline, then the others, shuffled by the seed.

    A baseline that leaves something open is the first point that agrees with it and has not been
    named before; one that names no other point is left out.
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
    """What makes two points of a grid the same one."""
    values = searched(spec, point)
    return tuple(values.get(name) for name in spec.domains)


def _mixed(seed: int, purpose: int, index: int) -> int:
    return int(np.random.SeedSequence((seed, purpose, index)).generate_state(1)[0])
