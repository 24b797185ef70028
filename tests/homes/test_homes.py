"""State folders that earlier versions left, as `scripts/keep_home.py` packed them."""

import json
import re
import tarfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient
from mlflow.entities import Run

from tests.cli.conftest import Workshop

KEPT = sorted(Path(__file__).parent.glob("*.tar.xz"))
CHANGELOG = Path(__file__).parents[2] / "CHANGELOG.md"
QUEUED = {"learning_rate": 0.002, "width": 4}
EPOCHS = 20
OUTCOMES = {
    (0, 0): "completed",
    (1, 0): "interrupted",  # stopped
    (1, 1): "interrupted",  # killed
    (1, 2): "completed",
    (2, 0): "completed",
}
"""In the end, by slot and attempt."""
AGREE = "the database, the spools here and MLflow agree"


@dataclass(frozen=True)
class KeptHome(Workshop):
    """A folder that an archive was unpacked into."""

    def kept(self, study: str) -> dict[str, Any]:
        """What `tuner show --json` told of the study when the archive was made."""
        return self._json((self.folder / f"{study}.json").read_text())

    def now(self, study: str) -> dict[str, Any]:
        """What it tells now."""
        return self._json(self.tuner("show", study, "--json").stdout)

    def runs(self, study: str) -> dict[tuple[int, int], Run]:
        """The runs in MLflow by slot and attempt, of which none is there twice."""
        client = MlflowClient(f"sqlite:///{self.folder}/.tuner/mlflow.db")
        ours = f"tags.`tuner.kind` = 'trial' AND tags.`tuner.study` = '{study}'"
        experiment = client.get_experiment_by_name("tuner")
        runs = client.search_runs([experiment.experiment_id], ours)
        found = {
            (int(run.data.tags["tuner.slot"]), int(run.data.tags["tuner.attempt"])): run
            for run in runs
        }
        assert len(found) == len(runs)
        return found

    def curve(self, run: Run) -> list[tuple[int, float, int]]:
        """Step, value and time of each epoch's loss."""
        client = MlflowClient(f"sqlite:///{self.folder}/.tuner/mlflow.db")
        history = client.get_metric_history(run.info.run_id, "loss")
        return sorted((point.step, point.value, point.timestamp) for point in history)

    def _json(self, text: str) -> dict[str, Any]:
        content: dict[str, Any] = json.loads(text)
        return content


@pytest.fixture(params=KEPT, ids=lambda archive: archive.name)
def home(request: pytest.FixtureRequest, tmp_path: Path) -> KeptHome:
    """Each of them, unpacked where it has never been."""
    with tarfile.open(request.param) as archive:
        archive.extractall(tmp_path, filter="data")
    return KeptHome(tmp_path)


def ended(shown: dict[str, Any]) -> dict[int, tuple[Any, ...]]:
    """What is known of the trials that are over, by number."""
    keys = ("slot", "state", "params", "value", "epochs", "duration_s", "run_id")
    over = [trial for trial in shown["trials"] if trial["state"] not in ("running", "waiting")]
    return {trial["number"]: tuple(trial[key] for key in keys) for trial in over}


@pytest.mark.slow
def test_a_kept_state_folder_is_upgraded_moved_and_its_study_finished(home: KeptHome) -> None:
    home.tuner("db", "upgrade")
    assert "nothing to upgrade" in home.tuner("db", "upgrade").stderr
    listed = home.tuner("studies").stdout
    assert re.search(r"finished .* 3/3 +done ", listed)
    assert re.search(r"interrupted .* 1/3 ", listed)
    assert re.search(r"submitted .* 0/2 +submitted ", listed)
    assert "new artifacts go to" in home.tuner("doctor", code=1).stdout

    before = run_ids(home.runs("interrupted"))
    healed = home.tuner("doctor", "--fix").stdout
    assert all(f"{name}: {AGREE}" in healed for name in ("finished", "interrupted"))
    finished, kept = home.now("finished"), ended(home.kept("interrupted"))
    assert ended(finished) == ended(home.kept("finished"))
    assert finished["best"]["trial"]["number"] == 0
    assert "the test set: 1\n" in home.tuner("show", "finished").stdout
    assert re.search(r"1 .* - +promote +finished +0 ", home.tuner("looks", "digits").stdout)
    assert ended(home.now("interrupted")) == kept

    home.tuner("run-study", "interrupted.yaml")

    study, runs = home.now("interrupted"), home.runs("interrupted")
    assert study["counts"] == dict.fromkeys(study["counts"], 0) | {"completed": 3}
    assert ended(study).items() >= kept.items()
    assert QUEUED in [trial["params"] for trial in study["trials"]]
    assert run_ids(runs).items() >= before.items()
    assert {at: run.data.tags["tuner.state"] for at, run in runs.items()} == OUTCOMES
    for at, run in runs.items():
        completed = OUTCOMES[at] == "completed"
        assert run.info.status == ("FINISHED" if completed else "KILLED")
        steps = [step for step, *_ in home.curve(run)]
        assert steps == list(range(1, (EPOCHS if completed else len(steps)) + 1))
    first, second, third = (home.curve(runs[1, number]) for number in range(3))
    assert first[0] == second[0] == third[0], "each resumed from the checkpoint of the one before"
    said = home.tuner("doctor").stdout
    assert all(f"{name}: {AGREE}" in said for name in ("finished", "interrupted"))


def run_ids(runs: Mapping[tuple[int, int], Run]) -> dict[tuple[int, int], str]:
    return {at: run.info.run_id for at, run in runs.items()}


def test_every_release_has_left_a_state_folder() -> None:
    released = re.findall(r"^## \[(.+?)\] - \d{4}-", CHANGELOG.read_text(), re.MULTILINE)
    assert {f"{version}.tar.xz" for version in released} <= {kept.name for kept in KEPT}
