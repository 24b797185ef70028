"""What every part's tests share: a clean environment, a home folder, how they share processes."""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from hypothesis import settings
from xdist.remote import Producer
from xdist.scheduler import LoadFileScheduling

from tuner.datasets.store import DatasetInfo
from tuner.home import Home

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

_LONGEST = (
    _JAX,
    *_IN_KERAS,
    "tests/faults/test_workers.py",
    "tests/faults/test_driver_deaths.py",
    "tests/faults/",
    "tests/cli/",
    "tests/tracking/test_shipper.py",
    "tests/workers/",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The files that take longest come first, so that no process is left with one at the end."""

    def rank(item: pytest.Item) -> int:
        file = item.nodeid
        return next((n for n, name in enumerate(_LONGEST) if file.startswith(name)), len(_LONGEST))

    items.sort(key=rank)


class OneKeras(LoadFileScheduling):  # type: ignore[misc]  # xdist has no types
    """Each file is one process's work, and all that import Keras are one process's together."""

    def _split_scope(self, nodeid: str) -> str:
        file = str(super()._split_scope(nodeid))
        return "keras" if file.startswith(_IN_KERAS) and file != _JAX else file


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> LoadFileScheduling | None:
    return OneKeras(config, log) if config.option.dist == "loadfile" else None


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
    """A SQLite file with MLflow's tables, made once: that takes two seconds."""
    path = tmp_path_factory.mktemp("store") / "mlflow.db"
    code = (
        "import sys; from tuner.tracking.mlflow.experiments import open_store;"
        "open_store(sys.argv[1])"
    )
    subprocess.run([sys.executable, "-c", code, f"sqlite:///{path}"], check=True)
    return path


@pytest.fixture
def dataset(tmp_path: Path) -> DatasetInfo:
    """A data set for what looks at no image."""
    return DatasetInfo(
        name="digits",
        digest="0" * 64,
        source="a test",
        folder=tmp_path / "digits",
        image_shape=(8, 8, 1),
        classes=tuple("0123456789"),
        train_count=100,
        test_count=20,
        background="dark",
        content_fraction=1.0,
    )
