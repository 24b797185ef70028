"""State folders with any name, moved elsewhere, and an experiment that someone deleted."""

import shutil
from pathlib import Path

import pytest
from mlflow import MlflowClient

from tests.faults.conftest import Place
from tuner.home import Home
from tuner.promotion.registry.versions import fetch
from tuner.tracking.mlflow.connection import connected
from tuner.tracking.settings import TrackingSettings

PRINTABLE = "".join(chr(code) for code in range(0x20, 0x7F) if chr(code) != "/")
ODD = f"{PRINTABLE}%41%2F\u00e9\u6f22\U0001f600"


class OwnHome(Place):
    """A place whose databases lie in its home, as they do by default."""

    def environment(self, home: str = "home") -> dict[str, str]:
        theirs = ("TUNER_STORAGE_URL", "MLFLOW_TRACKING_URI")
        return {k: v for k, v in super().environment(home).items() if k not in theirs}


@pytest.fixture
def odd(tmp_path: Path, template: Path) -> OwnHome:
    """A place in a folder with every printable character in its name."""
    folder = tmp_path / ODD
    folder.mkdir()
    shutil.copy(template / "digits.npz", folder)
    return OwnHome(folder, storage_url="")


def files(folder: Path) -> set[str]:
    return {each.name for each in folder.iterdir()}


@pytest.mark.slow
def test_a_home_of_any_name_holds_all_and_goes_on_where_it_is_moved(
    odd: OwnHome, tmp_path: Path
) -> None:
    odd.write_study(trials=1)
    assert odd.run() == 0
    assert files(odd.folder) == {"study.yaml", "digits.npz", "home", "home.log"}
    assert files(tmp_path) == {ODD}
    assert files(odd.folder / "home") >= {"tuner.db", "mlflow.db", "mlartifacts", "datasets"}
    check_downloads(odd.folder / "home", trials=1)

    moved = OwnHome((tmp_path / ODD).rename(tmp_path / "moved"), storage_url="")
    store = TrackingSettings.from_environment(moved.folder / "home", {})
    client = MlflowClient(store.uri)
    client.delete_experiment(client.get_experiment_by_name("tuner").experiment_id)
    moved.write_study(trials=2)
    assert moved.run() == 3
    assert "experiment 'tuner' is deleted; restore it with: tuner doctor --fix" in moved.said()
    said = moved.answer("doctor", code=1)
    assert "MLflow: experiment 'tuner' is deleted; with --fix it is restored" in said
    assert f"MLflow: new artifacts go to {odd.folder}/home/mlartifacts, not to" in said
    client.restore_experiment(client.get_experiment_by_name("tuner").experiment_id)
    assert moved.run() == 3
    assert "the state folder was moved; repair that with: tuner doctor --fix" in moved.said()

    assert "MLflow agree" in moved.answer("doctor", "--fix")
    assert moved.run() == 0
    assert files(tmp_path) == {"moved"}
    check_downloads(moved.folder / "home", trials=2)


def check_downloads(home: Path, trials: int) -> None:
    """As promotion fetches a trial's model, and later the registered one; all inside the home."""
    with connected(TrackingSettings.from_environment(home, {})) as client:
        experiment = client.get_experiment_by_name("tuner").experiment_id
        runs = client.search_runs([experiment], "tags.`tuner.state` = 'completed'")
        tried = [run for run in runs if run.data.tags["tuner.kind"] == "trial"]
        assert len(tried) == trials
        name = f"model-{trials}"
        client.create_registered_model(name)
        for run in tried:
            target = Home(home).root / "models" / name / run.info.run_id
            target.mkdir(parents=True)
            found = client.download_artifacts(run.info.run_id, "model/model.keras", str(target))
            assert Path(found).is_relative_to(target)
            source = f"{run.info.artifact_uri}/model"
            version = client.create_model_version(name, source, run.info.run_id)
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr("tuner.promotion.registry.versions.PACKED_FILE", "model.keras")
                assert fetch(client, version, target).read_bytes() == Path(found).read_bytes()
