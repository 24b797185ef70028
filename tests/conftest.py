"""What every part's tests share: a clean environment and a home folder of their own."""

import os
import tempfile
from pathlib import Path

import pytest
from hypothesis import settings

from tuner.datasets.store import DatasetInfo
from tuner.home import Home

settings.register_profile("tuner", deadline=None)  # no test asserts a time
settings.load_profile("tuner")

os.environ["XDG_RUNTIME_DIR"] = tempfile.mkdtemp()  # read when pgserver is imported

_OURS = (
    "TUNER_HOME",
    "TUNER_STORAGE_URL",
    "MLFLOW_TRACKING_URI",
    "MLFLOW_EXPERIMENT_NAME",
    "KERAS_BACKEND",
)


_LONGEST = (
    "tests/faults/test_workers.py",
    "tests/faults/test_driver_deaths.py",
    "tests/training/test_jax.py",
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


@pytest.fixture(autouse=True, scope="session")
def _clean_environment() -> None:
    for name in _OURS:
        os.environ.pop(name, None)


@pytest.fixture
def home(tmp_path: Path) -> Home:
    place = Home(tmp_path / "home")
    place.create()
    return place


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
