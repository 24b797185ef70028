"""The engine of each backend, and whether its packages are installed."""

from importlib.util import find_spec
from typing import TYPE_CHECKING

from tuner.errors import UnavailableError
from tuner.spec.recipe import Backend

if TYPE_CHECKING:
    from tuner.training.engines.base import Engine

TITLES: dict[Backend, str] = {"tensorflow": "TensorFlow", "jax": "JAX"}
"""The names of the backends for people."""
_INSTALLED_BY: dict[Backend, str] = {"tensorflow": "tensorflow", "jax": "'tuner[jax]'"}


def installed(backend: Backend) -> bool:
    """Whether the backend's package is installed; imports nothing."""
    return find_spec(backend) is not None


def check_installed(backend: Backend) -> None:
    """Checks that the backend's package is installed; imports nothing.

    Raises:
        UnavailableError: it is not installed.
    """
    if not installed(backend):
        raise UnavailableError(
            f"backend: must be installed, but {TITLES[backend]} is not; "
            f"pip install {_INSTALLED_BY[backend]}"
        )


def start(backend: Backend, threads: int) -> "Engine":
    """Loads the backend for `threads` threads, which takes seconds, and returns its engine."""
    if backend == "jax":
        from tuner.training.engines.jax import JaxEngine

        return JaxEngine.start(threads)
    from tuner.training.engines.tensorflow import TensorFlowEngine

    return TensorFlowEngine.start(threads)
