"""Trainers on a Ray cluster: what is asked of it. Ray itself is loaded where one is wanted."""

from dataclasses import dataclass
from importlib.util import find_spec

from tuner.errors import UnavailableError
from tuner.spec.backend import Backend
from tuner.spec.study import AutoOrCount
from tuner.workers.handle_pool import HandlePool


@dataclass(frozen=True)
class Cluster:
    """A Ray cluster, and what Ray holds there for each trainer."""

    address: str | None = None
    """`host:port`, `auto`, or None for RAY_ADDRESS, a cluster on this machine or else a new one."""
    num_cpus: float = 1.0
    """Cores, or a fraction of one."""
    num_gpus: float | None = None
    """GPUs, or a fraction of one that others share; None for one where the cluster has any."""

    def pool(self, workers: AutoOrCount, slots: int, backend: Backend) -> HandlePool:
        """Joins the cluster and starts trainers there, see `RayPool`.

        Raises:
            UnavailableError: Ray is not installed, there is no such cluster, or none of its nodes
                has what a trainer takes.
        """
        if find_spec("ray") is None:
            raise UnavailableError(
                "--on ray: must be installed, but Ray is not; pip install 'tuner[ray]'"
            )
        from tuner.workers.ray_pool import RayPool

        return RayPool(self, workers, slots, backend)
