"""A recorded study, a local store, and a real MLflow server."""

import shutil
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from tests.tracking.recorder import Recorder
from tests.tracking.servers import Server, served
from tuner.tracking.settings import TrackingSettings, prepare_mlflow_environment

prepare_mlflow_environment()


@pytest.fixture
def recorder(tmp_path: Path) -> Recorder:
    return Recorder(tmp_path / "study")


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
