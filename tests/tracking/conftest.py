"""A recorded study, a local store, and a real MLflow server."""

import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from tests.tracking.recorder import Recorder
from tests.tracking.servers import Server, served
from tuner.tracking.settings import TrackingSettings, prepare_mlflow_environment

prepare_mlflow_environment()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """MLflow 3.17 asks for a loader that SQLAlchemy 2.1 deprecates."""
    warning = "ignore:The ``noload`` loader strategy:DeprecationWarning"
    for item in items:
        if item.path.parent == Path(__file__).parent:
            item.add_marker(pytest.mark.filterwarnings(warning))


@pytest.fixture
def recorder(tmp_path: Path) -> Recorder:
    return Recorder(tmp_path / "study")


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
def local(tmp_path: Path, empty_store: Path) -> TrackingSettings:
    """Settings for a local store of the test's own."""
    shutil.copyfile(empty_store, tmp_path / "mlflow.db")
    return TrackingSettings.from_environment(tmp_path, {})


@pytest.fixture
def stopped_server(tmp_path: Path, empty_store: Path) -> Iterator[Server]:
    """A server that the test starts."""
    yield from served(tmp_path / "server", empty_store)


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory, empty_store: Path) -> Iterator[Server]:
    """A running server for all tests; each names an experiment of its own."""
    with closing(served(tmp_path_factory.mktemp("shared") / "server", empty_store)) as servers:
        server = next(servers)
        server.start()
        yield server
