from pathlib import Path

import pytest

from tuner.errors import UsageError
from tuner.tracking.mlflow.experiments import open_store
from tuner.tracking.settings import TrackingSettings


def settings(home: Path, uri: str) -> TrackingSettings:
    return TrackingSettings.from_environment(home, {"MLFLOW_TRACKING_URI": uri})


def test_the_default_is_a_local_file_under_home(tmp_path: Path) -> None:
    local = TrackingSettings.from_environment(tmp_path, {"MLFLOW_TRACKING_URI": " "})
    assert local.uri == f"sqlite:///{tmp_path}/mlflow.db"
    assert local.artifact_root == f"{tmp_path}/mlartifacts"
    assert local.experiment == "tuner"
    assert local.is_local
    assert local.server_url is None


def test_a_server_decides_where_artifacts_go(tmp_path: Path) -> None:
    remote = settings(tmp_path, "https://mlflow:5000")
    assert (remote.artifact_root, remote.server_url) == ("", "https://mlflow:5000")
    assert not remote.is_local


def test_a_store_makes_its_folder_for_its_owner_alone(tmp_path: Path) -> None:
    """It may be the first that needs the state folder."""
    home = tmp_path / "new" / "home"
    open_store(settings(home, "").uri)
    assert home.stat().st_mode & 0o777 == 0o700


def test_the_experiment_can_be_named(tmp_path: Path) -> None:
    named = TrackingSettings.from_environment(tmp_path, {"MLFLOW_EXPERIMENT_NAME": "mine"})
    assert named.experiment == "mine"


def test_a_shared_database_is_not_local_but_needs_a_folder(tmp_path: Path) -> None:
    shared = settings(tmp_path, "postgresql+psycopg://me:secret@db:5432/mlflow")
    assert not shared.is_local
    assert shared.artifact_root
    assert shared.shown_uri == "postgresql+psycopg://me:***@db:5432/mlflow"
    assert "secret" not in repr(shared)


@pytest.mark.parametrize("uri", ["mlruns", "file:///tmp/mlruns", "htp://server"])
def test_other_addresses_are_refused(tmp_path: Path, uri: str) -> None:
    with pytest.raises(UsageError, match="MLFLOW_TRACKING_URI: must be a server's address"):
        settings(tmp_path, uri)
