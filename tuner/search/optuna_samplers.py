"""Creates Optuna's samplers, pruners and distributions from a study file."""

import warnings

import optuna
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.exceptions import ExperimentalWarning
from optuna.pruners import (
    BasePruner,
    HyperbandPruner,
    MedianPruner,
    NopPruner,
    SuccessiveHalvingPruner,
)
from optuna.samplers import BaseSampler, CmaEsSampler, QMCSampler, RandomSampler, TPESampler

from tuner.errors import UnavailableError
from tuner.spec import samplers
from tuner.spec.search_space import ChoiceDomain, Domain, FloatDomain, nearest_step
from tuner.spec.study_spec import StudySpec


def distributions(spec: StudySpec) -> dict[str, BaseDistribution]:
    """Returns the searched parameters as Optuna distributions, by name."""
    return {name: _distribution(domain) for name, domain in spec.domains.items()}


def sampler(spec: StudySpec, seed: int) -> BaseSampler:
    """Creates the sampler for one point.

    Each point has a seed of its own, so a resumed study samples the same points. A quasi-random
    sequence has one seed for all points, and counts its points in the database.

    Raises:
        UnavailableError: the sampler needs a package that is not installed.
    """
    independent = RandomSampler(seed)
    match spec.sampler:
        case samplers.Tpe(n_startup_trials=startup, multivariate=multivariate):
            return TPESampler(seed=seed, n_startup_trials=startup, multivariate=multivariate)
        case samplers.Qmc(sequence=sequence):
            return _quasi_random(sequence, spec.seed, independent)
        case samplers.CmaEs(n_startup_trials=startup):
            return CmaEsSampler(
                seed=seed,
                n_startup_trials=startup,
                independent_sampler=independent,
                warn_independent_sampling=False,
            )
        case samplers.GaussianProcess(n_startup_trials=startup):
            return _gaussian_process(seed, startup)
        case samplers.Random() | samplers.Grid():
            return independent


def pruner(spec: StudySpec) -> BasePruner:
    """Creates the pruner. Hyperband's `max_resource` is the study's number of epochs."""
    match spec.pruner:
        case samplers.MedianPruner() as median:
            return MedianPruner(
                n_startup_trials=median.n_startup_trials,
                n_warmup_steps=median.n_warmup_steps,
                interval_steps=median.interval_steps,
            )
        case samplers.Hyperband() as hyperband:
            return HyperbandPruner(
                min_resource=hyperband.min_resource,
                max_resource=spec.epochs,
                reduction_factor=hyperband.reduction_factor,
            )
        case samplers.SuccessiveHalving() as halving:
            return SuccessiveHalvingPruner(
                min_resource=halving.min_resource, reduction_factor=halving.reduction_factor
            )
        case samplers.NoPruner():
            return NopPruner()


def exact(distribution: BaseDistribution, value: float) -> float:
    """Rounds a sampled value with a step to its exact decimal.

    Args:
        distribution: the parameter's distribution.
        value: the value in Optuna's internal representation.
    """
    if isinstance(distribution, FloatDistribution) and distribution.step is not None:
        return nearest_step(value, distribution.low, distribution.step)
    return value


def _distribution(domain: Domain) -> BaseDistribution:
    if isinstance(domain, ChoiceDomain):
        return CategoricalDistribution(domain.choices)
    if isinstance(domain, FloatDomain):
        return FloatDistribution(domain.low, domain.last, log=domain.log, step=domain.step)
    return IntDistribution(domain.low, domain.last, log=domain.log, step=domain.step)


def _quasi_random(sequence: str, seed: int, independent: BaseSampler) -> BaseSampler:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)  # experimental since Optuna 3.0
        return QMCSampler(
            qmc_type=sequence,
            scramble=True,
            seed=seed,
            independent_sampler=independent,
            warn_independent_sampling=False,
        )


def _gaussian_process(seed: int, startup: int) -> BaseSampler:
    try:
        import torch  # noqa: F401 - Optuna imports it only when the first point is sampled
    except ImportError as error:
        raise UnavailableError(
            "sampler: gp needs PyTorch; install it with: pip install 'tuner[gp]'"
        ) from error
    return optuna.samplers.GPSampler(seed=seed, n_startup_trials=startup)
