"""What every part's tests share: a clean environment, a home folder, how they share processes."""

import os
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import settings
from xdist.remote import Producer
from xdist.scheduler import LoadFileScheduling

from tuner.files import exclusive
from tuner.home import Home
from tuner.startup import configure_process

configure_process()  # each process of pytest imports what a process of tuner does, and more

settings.register_profile("tuner", deadline=None)  # no test asserts a time
settings.load_profile("tuner")

os.environ["XDG_RUNTIME_DIR"] = tempfile.mkdtemp()  # read when pgserver is imported

pytest_plugins = ("tests.bench", "tests.digits")
"""Modules with fixtures that several folders share."""

_OURS = (
    "TUNER_HOME",
    "TUNER_STORAGE_URL",
    "MLFLOW_TRACKING_URI",
    "MLFLOW_EXPERIMENT_NAME",
    "KERAS_BACKEND",
)


_IN_KERAS = ("tests/promotion/", "tests/inference/", "tests/training/", "tests/models/")
"""Folders whose tests import Keras into pytest's own process, which takes seconds each time."""

_JAX = "tests/training/test_jax.py"
"""Waits for a process of its own."""

_SERVED = tuple(
    f"tests/tracking/test_{part}.py"
    for part in ("shipper", "refusals", "uploads", "inspection", "shipping_again")
)
"""Files whose tests need an MLflow server, which takes ten seconds to start."""

_TRAINERS = ("tests/workers/test_pool.py", "tests/workers/test_deaths.py")
"""Files whose tests need the same two trainers with TensorFlow."""

_LONGEST = (
    _JAX,
    *_IN_KERAS,
    "tests/faults/test_workers.py",
    "tests/faults/test_driver_deaths.py",
    "tests/faults/",
    "tests/cli/",
    *_SERVED,
    "tests/workers/",
)


@pytest.hookimpl(tryfirst=True)  # before pytest leaves out what `-m` does not choose
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Marks slow variants, and puts the files first that take longest.

    So no process is left with a long file at the end.
    """
    seen = Counter[str]()
    for item in items:
        if marker := item.get_closest_marker("slow_variants"):
            test = item.nodeid.partition("[")[0]
            seen[test] += 1
            if seen[test] > marker.kwargs.get("quick", 1):
                item.add_marker(pytest.mark.slow)

    def rank(item: pytest.Item) -> int:
        file = item.nodeid
        return next((n for n, name in enumerate(_LONGEST) if file.startswith(name)), len(_LONGEST))

    items.sort(key=rank)


class ByWhatIsShared(LoadFileScheduling):  # type: ignore[misc]  # xdist has no types
    """Each file is one process's work, and files that share what is slow to start are, together."""

    def _split_scope(self, nodeid: str) -> str:
        file = str(super()._split_scope(nodeid))
        if file in _SERVED:
            return "served"
        if file in _TRAINERS:
            return "trainers"
        return "keras" if file.startswith(_IN_KERAS) and file != _JAX else file


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> LoadFileScheduling | None:
    return ByWhatIsShared(config, log) if config.option.dist == "loadfile" else None


@pytest.fixture(autouse=True, scope="session")
def _clean_environment() -> None:
    for name in _OURS:
        os.environ.pop(name, None)


@pytest.fixture
def home(tmp_path: Path) -> Home:
    place = Home(tmp_path / "home")
    place.create()
    return place


@pytest.fixture(scope="session")
def empty_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A SQLite file with MLflow's tables, made once for all processes: that takes seconds."""
    folder = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        folder = folder.parent
    path = folder / "empty-store" / "mlflow.db"
    code = (
        "import sys; from tuner.tracking.mlflow.experiments import open_store;"
        "open_store(sys.argv[1])"
    )
    with exclusive(folder / "empty-store.lock"):
        if not path.exists():
            subprocess.run([sys.executable, "-c", code, f"sqlite:///{path}"], check=True)
    return path
