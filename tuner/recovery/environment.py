"""Reports the environment: versions, folders, devices, database and MLflow."""

import os
import platform
import shutil
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version

from tuner.errors import masked
from tuner.home import Home
from tuner.tracking.mlflow.store_reader import reading
from tuner.tracking.settings import TrackingSettings
from tuner.workers.devices import free_memory, processor_quota, usable_cores, visible_gpus

_PACKAGES = ("tuner", "optuna", "mlflow", "keras", "tensorflow", "jax", "ray", "sqlalchemy")


def environment_report(home: Home, tracking: TrackingSettings) -> Iterator[tuple[str, str]]:
    """Yields the name of each part of the environment, and what was found of it.

    Raises:
        UnavailableError: the home folder cannot be written, or MLflow does not answer.
    """
    yield "Python", platform.python_version()
    for package in _PACKAGES:
        yield package, _version(package)
    home.create()
    free = shutil.disk_usage(home.root).free
    yield "state folder", f"{home.root}, {free / 1e9:.1f} GB free"
    yield "processor cores", _cores()
    yield "GPUs", ", ".join(visible_gpus(os.environ)) or "none"
    url = os.environ.get("TUNER_STORAGE_URL")
    yield "database", masked(url) if url else str(home.database)
    with reading(tracking) as store:
        found = "" if store.experiment() else ", which has no study yet"
    yield "MLflow", f"{tracking.shown_uri} answers, experiment {tracking.experiment!r}{found}"


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"


def _cores() -> str:
    limits = []
    if (quota := processor_quota()) is not None:
        limits.append(f"the container may use {quota:g}")
    if (memory := free_memory()) is not None:
        limits.append(f"{memory / 1e9:.1f} GB of memory")
    return ", ".join([str(len(usable_cores())), *limits])
