"""What a study file may say of its sampler and its pruner."""

from functools import partial
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field

from tuner.spec.section import Flag, Section, Whole, by_type


class Tpe(Section):
    """Tree-structured Parzen estimator, Optuna's default."""

    type: Literal["tpe"] = "tpe"
    n_startup_trials: Whole = Field(default=10, ge=0)
    """Trials drawn at random before the first estimate."""
    multivariate: Flag = True
    """Estimate the parameters jointly, not one by one."""


class Random(Section):
    """Independent uniform draws."""

    type: Literal["random"] = "random"


class Qmc(Section):
    """A scrambled Sobol or Halton sequence: draws that cover the space evenly."""

    type: Literal["qmc"] = "qmc"
    sequence: Literal["sobol", "halton"] = "sobol"
    """Which low-discrepancy sequence."""


class CmaEs(Section):
    """Covariance matrix adaptation; numeric parameters only, the rest drawn at random."""

    type: Literal["cmaes"] = "cmaes"
    n_startup_trials: Whole = Field(default=1, ge=0)
    """Trials drawn at random before the first adaptation."""


class Grid(Section):
    """Every point once, in an order shuffled by the study's seed."""

    type: Literal["grid"] = "grid"


class GaussianProcess(Section):
    """Gaussian process with log expected improvement; needs the extra `tuner[gp]`."""

    type: Literal["gp"] = "gp"
    n_startup_trials: Whole = Field(default=10, ge=0)
    """Trials drawn at random before the first fit."""


class MedianPruner(Section):
    """Stops a trial that is below the median of the earlier ones at the same epoch."""

    type: Literal["median"] = "median"
    n_startup_trials: Whole = Field(default=5, ge=0)
    """Trials that must have ended before any is stopped."""
    n_warmup_steps: Whole = Field(default=0, ge=0)
    """Epochs that every trial may train in any case."""
    interval_steps: Whole = Field(default=1, ge=1)
    """Epochs between two looks."""


class Hyperband(Section):
    """Successive halving over several trade-offs of breadth and depth."""

    type: Literal["hyperband"] = "hyperband"
    min_resource: Whole = Field(default=1, ge=1)
    """Epochs that every trial may train in any case."""
    reduction_factor: Whole = Field(default=3, ge=2)
    """One in so many goes on to the next rung."""


class SuccessiveHalving(Section):
    """Asynchronous successive halving: the best of each rung go on.

    The default of studies, with the settings that docs/search.md measured.
    """

    type: Literal["successive-halving"] = "successive-halving"
    min_resource: Whole = Field(default=2, ge=1)
    """Epochs that every trial may train in any case."""
    reduction_factor: Whole = Field(default=3, ge=2)
    """One in so many goes on to the next rung."""


class NoPruner(Section):
    """Every trial trains all its epochs."""

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
