"""The settings of a Ray cluster, as the command line gives them. Loads Ray only when it is used."""

import os
from dataclasses import dataclass
from importlib.util import find_spec

from tuner.errors import UnavailableError, UsageError
from tuner.spec.recipe import Backend
from tuner.spec.study_spec import AutoOrCount
from tuner.workers.handle_pool import HandlePool


@dataclass(frozen=True)
class Cluster:
    """A Ray cluster, and the resources that each trainer reserves on it."""

    address: str | None = None
    """`host:port`, `auto`, or None for RAY_ADDRESS, a cluster on this machine or else a new one."""
    num_cpus: float = 1.0
    """The cores of a trainer, or a fraction of one."""
    num_gpus: float | None = None
    """The GPUs of a trainer, or a fraction of a shared one; None for one if the cluster has any."""

    def __post_init__(self) -> None:
        if not self.num_cpus and self.num_gpus == 0:
            raise UsageError("--num-cpus, --num-gpus: must not both be 0")
        for name, amount in (("--num-cpus", self.num_cpus), ("--num-gpus", self.num_gpus or 0)):
            if amount > 1 and amount != int(amount):
                raise UsageError(f"{name}: must be a whole number above 1, got {amount:g}")

    def pool(self, workers: AutoOrCount, slots: int, backend: Backend) -> HandlePool:
        """Joins the cluster and starts trainers there, see `RayPool`.

        Raises:
            UsageError: the address is invalid.
            UnavailableError: Ray is not installed, there is no such cluster, or none of its nodes
                has the resources for a trainer.
        """
        if find_spec("ray") is None:
            raise UnavailableError(
                "--on ray: must be installed, but Ray is not; pip install 'tuner[ray]'"
            )
        os.environ["RAY_ENABLE_AUTO_CONNECT"] = "0"  # or a late call would start a cluster anew
        from tuner.workers.ray_pool import RayPool

        return RayPool(self, workers, slots, backend)
