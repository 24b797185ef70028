"""`tuner promote best` as it is by default: a confirmation, a refit, the registry."""

import json
import re
import signal
from collections.abc import Callable

import pytest
from mlflow import MlflowClient

from tests.cli.conftest import Workshop
from tests.waiting import wait_until

STUDY = """
name: confirmed
dataset: digits
model: dense
search_space: {learning_rate: {type: choice, choices: [0.001, 0.00001]}, batch_size: 64}
baseline: [{learning_rate: 0.00001}]
sampler: grid
pruner: none
precision: float32
epochs: 2
workers: 1
validation: 200
confirmation: {finalists: 1, max_seeds: 5}
promotion: {gates: {test_accuracy: 0.5}}
"""


@pytest.fixture
def studied(make_workshop: Callable[[str], Workshop]) -> Workshop:
    """A workshop whose study has ended."""
    workshop = make_workshop("confirmed")
    (workshop.folder / "study.yaml").write_text(STUDY)
    workshop.tuner("run-study", "study.yaml")
    return workshop


def counts(workshop: Workshop, study: str) -> dict[str, int]:
    found: dict[str, int] = json.loads(workshop.tuner("show", study, "--json").stdout)["counts"]
    return found


@pytest.mark.slow
def test_a_promotion_that_is_killed_in_its_race_resumes_and_registers_the_refit(
    studied: Workshop,
) -> None:
    killed = studied.start("promote", "best")
    spools = studied.folder / ".tuner" / "studies"
    wait_until(lambda: len(list(spools.glob("confirmed-confirmation/*/attempts/*"))) > 2)
    killed.send_signal(signal.SIGKILL)
    killed.communicate()
    assert killed.returncode == -signal.SIGKILL

    done = studied.tuner("promote", "best", "confirmed", "--workers", "2", "--json")
    assert "starting 2 trainers" in done.stderr, "its file says 1"
    assert " on 2 trainers" in done.stderr
    report = json.loads(done.stdout)
    assert report["promoted"]
    grounds = report["grounds"]
    assert (grounds["confirmation"], grounds["verdict"]) == ("confirmed-confirmation", "better")
    assert (grounds["point"], grounds["refit"]) == (1, True)
    assert "is better than the baseline: val_accuracy +0." in grounds["lines"][0]
    assert counts(studied, "confirmed-confirmation")["completed"] == 10
    assert counts(studied, "confirmed-refit")["completed"] == 1

    client = MlflowClient(f"sqlite:///{studied.folder}/.tuner/mlflow.db")
    version = client.get_model_version_by_alias("confirmed", "champion")
    assert version.tags["tuner.study"] == "confirmed-refit"
    assert version.tags["tuner.chosen.study"] == "confirmed"
    assert version.tags["tuner.chosen.by"] == "confirmed-confirmation"
    assert version.tags["tuner.verdict"] == "; ".join(grounds["lines"])
    assert "point 1 of study confirmed" in version.description
    page = next(studied.folder.glob(".tuner/mlartifacts/**/promotion/card.html")).read_text()
    assert "is better than the baseline" in page
    run = client.get_run(version.run_id)
    assert run.data.params["learning_rate"] == "0.001"
    assert run.data.metrics["test_accuracy"] == report["metrics"]["test_accuracy"]

    again = json.loads(studied.tuner("promote", "best", "confirmed", "--json").stdout)
    assert (again["version"], again["reigning"]) == (1, True)
    shown = studied.tuner("show", "confirmed").stdout
    assert re.search(r"accesses to the test set: 2", shown)

    studied.tuner("delete", "confirmed", "--yes")
    assert "no study yet" in studied.tuner("studies").stderr
    assert not list(spools.glob("confirmed*/*/attempts"))
