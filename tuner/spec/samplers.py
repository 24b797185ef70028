"""What a study file may say of its sampler and its pruner."""

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field

from tuner.spec.search_space import Frozen


class Tpe(Frozen):
    """Tree-structured Parzen estimator, Optuna's default."""

    type: Literal["tpe"] = "tpe"
    n_startup_trials: int = Field(default=10, ge=0)
    multivariate: bool = True


class Random(Frozen):
    """Independent uniform draws."""

    type: Literal["random"] = "random"


class Qmc(Frozen):
    """A scrambled Sobol or Halton sequence: draws that cover the space evenly."""

    type: Literal["qmc"] = "qmc"
    sequence: Literal["sobol", "halton"] = "sobol"


class CmaEs(Frozen):
    """Covariance matrix adaptation; numeric parameters only, the rest drawn at random."""

    type: Literal["cmaes"] = "cmaes"
    n_startup_trials: int = Field(default=1, ge=0)


class Grid(Frozen):
    """Every point once, in an order shuffled by the study's seed."""

    type: Literal["grid"] = "grid"


class GaussianProcess(Frozen):
    """Gaussian process with log expected improvement; needs the extra `tuner[gp]`."""

    type: Literal["gp"] = "gp"
    n_startup_trials: int = Field(default=10, ge=0)


class MedianPruner(Frozen):
    """Stops a trial that is below the median of the earlier ones at the same epoch."""

    type: Literal["median"] = "median"
    n_startup_trials: int = Field(default=5, ge=0)
    n_warmup_steps: int = Field(default=0, ge=0)
    interval_steps: int = Field(default=1, ge=1)


class Hyperband(Frozen):
    """Successive halving over several trade-offs of breadth and depth."""

    type: Literal["hyperband"] = "hyperband"
    min_resource: int = Field(default=1, ge=1)
    reduction_factor: int = Field(default=3, ge=2)


class SuccessiveHalving(Frozen):
    """Asynchronous successive halving: the best of each rung go on."""

    type: Literal["successive-halving"] = "successive-halving"
    min_resource: int = Field(default=1, ge=1)
    reduction_factor: int = Field(default=4, ge=2)


class NoPruner(Frozen):
    """Every trial trains all its epochs."""

    type: Literal["none"] = "none"


def _from_name(value: object) -> object:
    return {"type": value} if isinstance(value, str) else value


Sampler = Annotated[
    Annotated[Tpe | Random | Qmc | CmaEs | Grid | GaussianProcess, Field(discriminator="type")],
    BeforeValidator(_from_name, json_schema_input_type=object),
]
Pruner = Annotated[
    Annotated[MedianPruner | Hyperband | SuccessiveHalving | NoPruner, Field(discriminator="type")],
    BeforeValidator(_from_name, json_schema_input_type=object),
]
