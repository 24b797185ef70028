"""What competes: the samplers and pruners of a study file, in pairs."""

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

from scipy.stats.qmc import Sobol

from tuner.spec.search_space import ChoiceDomain, Domain, FloatDomain, Scalar
from tuner.spec.study_spec import StudySpec
from tuner.spec.text.reader import read_study

SWEEP = Path(__file__).parents[2] / "studies" / "paper-sweep.yaml"

Setting = dict[str, Any]

_TPE: Setting = {"type": "tpe"}
_GP: Setting = {"type": "gp", "n_startup_trials": 10}

SAMPLERS: dict[str, Setting] = {
    "random": {"type": "random"},
    "qmc": {"type": "qmc"},
    "cmaes": {"type": "cmaes"},
    **{f"tpe, start {n}": {**_TPE, "n_startup_trials": n} for n in (3, 5, 8, 10, 15)},
    "tpe, quasi-random start 10": {**_TPE, "n_startup_trials": 10},
}
"""By the name that the tables give them; `start` counts the points drawn before it models."""

_QUASI_RANDOM_STARTS = {"tpe, quasi-random start 10": 10}
"""Points of a Sobol sequence in place of the random ones, as a study file's baseline."""

SLOW_SAMPLERS: dict[str, Setting] = {"gp, start 10": _GP}
"""Seconds of arithmetic an ask, and they need the extra `tuner[gp]`."""

PRUNERS: dict[str, Setting] = {
    "none": {"type": "none"},
    **{
        f"median, start {start}, warm-up {warm}": {
            "type": "median",
            "n_startup_trials": start,
            "n_warmup_steps": warm,
        }
        for start, warm in product((2, 5, 8), (1, 2, 3, 4, 5))
    },
    **{
        f"halving by {factor} from {least}": {
            "type": "successive-halving",
            "reduction_factor": factor,
            "min_resource": least,
        }
        for factor, least in product((2, 3, 4), (1, 2, 3))
    },
    **{
        f"hyperband by {factor} from {least}": {
            "type": "hyperband",
            "reduction_factor": factor,
            "min_resource": least,
        }
        for factor, least in product((2, 3), (1, 2, 3))
    },
}
"""Warm-up and rungs are epochs. Optuna's warm-up of 1 and of 0 are the same thing here."""

KINDS = tuple(dict.fromkeys(str(setting["type"]) for setting in PRUNERS.values()))
"""The types of pruners."""


@dataclass(frozen=True)
class Contender:
    """A sampler and a pruner, by the names above."""

    sampler: str
    pruner: str

    def __str__(self) -> str:
        return f"{self.sampler}; {self.pruner}"

    @property
    def kind(self) -> str:
        """The pruner's type."""
        return str(PRUNERS[self.pruner]["type"])

    def study(self, sweep: StudySpec, seed: int) -> StudySpec:
        """`sweep` with this sampler and pruner; name and seed are the repeat's own.

        Hyperband sorts trials into brackets by the study's name.
        """
        start = _QUASI_RANDOM_STARTS.get(self.sampler, 0)
        drawn = quasi_random_points(sweep, start, seed)[len(sweep.baseline) :]
        changed = sweep.model_dump(mode="json") | {
            "baseline": [*map(dict, sweep.baseline), *drawn],
            "name": f"{sweep.name}-{seed}",
            "seed": seed,
            "sampler": (SAMPLERS | SLOW_SAMPLERS)[self.sampler],
            "pruner": PRUNERS[self.pruner],
        }
        return StudySpec.model_validate(changed)


REFERENCE = Contender("random", "none")
"""Whose best accuracy is the target: random points, every trial trained to its end."""

FORMER = Contender("tpe, start 10", "median, start 5, warm-up 1")
"""What a study file got that named no settings, before any was measured."""


def contenders(samplers: Iterable[str], pruners: Iterable[str]) -> list[Contender]:
    """Every pair."""
    return [Contender(*pair) for pair in product(samplers, pruners)]


def sweep(batches: Iterable[int]) -> StudySpec:
    """`paper-sweep.yaml` with the batch sizes that the table was recorded at."""
    choices = ", ".join(map(str, batches))
    return read_study(SWEEP, [f"search_space.batch_size={{type: choice, choices: [{choices}]}}"])


def quasi_random_points(spec: StudySpec, size: int, seed: int) -> list[dict[str, Scalar]]:
    """The first `size` points of a scrambled Sobol sequence over the search space."""
    if not size:
        return []
    domains = spec.domains
    power = (size - 1).bit_length()  # the sequence is balanced at powers of two
    unit = Sobol(len(domains), rng=seed).random_base2(power)[:size]
    return [
        dict(zip(domains, map(_at, domains.values(), row), strict=True)) for row in unit.tolist()
    ]


def _at(domain: Domain, share: float) -> Scalar:
    """The value that leaves `share` of the domain below it."""
    if isinstance(domain, ChoiceDomain):
        return domain.choices[int(share * len(domain.choices))]
    if isinstance(domain, FloatDomain) and domain.log:
        return float(domain.low * (domain.high / domain.low) ** share)
    value = domain.low + (domain.high - domain.low) * share
    return value if isinstance(domain, FloatDomain) else round(value)
