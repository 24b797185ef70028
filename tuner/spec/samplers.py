"""The samplers and pruners of a study file, with their settings."""

from functools import partial
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field

from tuner.spec.section import Flag, Section, Whole, by_type


class Tpe(Section):
    """Tree-structured Parzen estimator, Optuna's default."""

    type: Literal["tpe"] = "tpe"
    n_startup_trials: Whole = Field(default=10, ge=0)
    """Random trials before the first estimate."""
    multivariate: Flag = True
    """Estimate all parameters jointly, not separately."""


class Random(Section):
    """Independent uniform sampling."""

    type: Literal["random"] = "random"


class Qmc(Section):
    """A scrambled Sobol or Halton sequence, which covers the space evenly."""

    type: Literal["qmc"] = "qmc"
    sequence: Literal["sobol", "halton"] = "sobol"
    """The low-discrepancy sequence."""


class CmaEs(Section):
    """Covariance matrix adaptation for numeric parameters; the others are sampled at random."""

    type: Literal["cmaes"] = "cmaes"
    n_startup_trials: Whole = Field(default=1, ge=0)
    """Random trials before the first adaptation."""


class Grid(Section):
    """Every point once, in an order shuffled by the study's seed."""

    type: Literal["grid"] = "grid"


class GaussianProcess(Section):
    """Gaussian process with log expected improvement; needs the extra `tuner[gp]`."""

    type: Literal["gp"] = "gp"
    n_startup_trials: Whole = Field(default=10, ge=0)
    """Random trials before the first fit."""


class MedianPruner(Section):
    """Stops a trial that is worse than the median of earlier trials at the same epoch."""

    type: Literal["median"] = "median"
    n_startup_trials: Whole = Field(default=5, ge=0)
    """Trials that must have ended before a trial is stopped."""
    n_warmup_steps: Whole = Field(default=0, ge=0)
    """Epochs before a trial can be stopped."""
    interval_steps: Whole = Field(default=1, ge=1)
    """Epochs between two checks."""


class Hyperband(Section):
    """Successive halving with several trade-offs between many short and few long trials."""

    type: Literal["hyperband"] = "hyperband"
    min_resource: Whole = Field(default=1, ge=1)
    """Epochs before a trial can be stopped."""
    reduction_factor: Whole = Field(default=3, ge=2)
    """One of this many trials continues to the next rung."""


class SuccessiveHalving(Section):
    """Asynchronous successive halving: only the best trials of each rung continue.

    The default pruner; docs/search.md shows the measurements behind its settings.
    """

    type: Literal["successive-halving"] = "successive-halving"
    min_resource: Whole = Field(default=2, ge=1)
    """Epochs before a trial can be stopped."""
    reduction_factor: Whole = Field(default=3, ge=2)
    """One of this many trials continues to the next rung."""


class NoPruner(Section):
    """No pruning: every trial trains all its epochs."""

    type: Literal["none"] = "none"


SAMPLERS = (Tpe, Random, Qmc, CmaEs, Grid, GaussianProcess)
PRUNERS = (MedianPruner, Hyperband, SuccessiveHalving, NoPruner)

SamplerName = Literal["tpe", "random", "qmc", "cmaes", "grid", "gp"]
PrunerName = Literal["median", "hyperband", "successive-halving", "none"]

_Sampler = Annotated[
    Tpe | Random | Qmc | CmaEs | Grid | GaussianProcess, Field(discriminator="type")
]
_Pruner = Annotated[
    MedianPruner | Hyperband | SuccessiveHalving | NoPruner, Field(discriminator="type")
]

Sampler = Annotated[
    _Sampler,
    BeforeValidator(
        partial(by_type, "sampler", SAMPLERS), json_schema_input_type=SamplerName | _Sampler
    ),
]
Pruner = Annotated[
    _Pruner,
    BeforeValidator(
        partial(by_type, "pruner", PRUNERS), json_schema_input_type=PrunerName | _Pruner
    ),
]
