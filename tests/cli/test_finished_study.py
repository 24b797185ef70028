import json
import re
import shutil
import signal
import socket
import sqlite3
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from mlflow import MlflowClient
from PIL import Image

from tests.cli.conftest import Workshop
from tests.faults.kill_points import SITE, KillPoint
from tuner.training.engines.recipes import processor_precisions


def test_a_strangers_data_and_model_are_tuned(finished: Workshop) -> None:
    study = finished.shown()

    assert study["counts"] == {
        "completed": 3, "pruned": 0, "failed": 0, "running": 0, "waiting": 0,
    }  # fmt: skip
    first = study["trials"][0]
    assert first["params"] == {"learning_rate": 0.01, "width": 16}
    assert study["precision"]["chosen"] in study["precision"]["epoch_s"]
    assert set(study["best"]) >= {"point", "params", "mean", "std", "completed", "seeds", "trial"}
    assert study["best"]["trial"] in study["trials"]
    assert study["best"] == study["points"][0]
    assert all(trial["run_id"] for trial in study["trials"])


def test_running_says_what_it_does_and_how_long_it_takes(finished: Workshop) -> None:
    log = (finished.folder / "run.log").read_text()

    assert "preparing the data set shapes:load" in log
    assert "loading TensorFlow" in log
    assert re.search(r"3 trials of 3 epochs on \d trainers?; an epoch takes [\d.]+ s here", log)
    assert re.search(r"trial 0 epoch 3/3: val_accuracy \d\.\d{4}", log)
    assert "tuner promote best shapes" in log


def test_a_finished_study_shows_its_result_at_once(finished: Workshop) -> None:
    again = finished.tuner("run-study", "study.yaml")

    assert "shapes: 3 completed" in again.stdout
    assert "loading TensorFlow" not in again.stderr


def test_an_open_precision_is_settled_once_and_for_all(finished: Workshop) -> None:
    log = (finished.folder / "run.log").read_text()
    settled = re.search(r"training in (float32|bfloat16) \(an epoch takes float32 [\d.]+ s, ", log)
    assert (settled is not None) is ("bfloat16" in processor_precisions())
    precision = settled[1] if settled else "float32"

    other = "float32" if precision == "bfloat16" else "bfloat16"
    again = finished.tuner("run-study", "study.yaml", "--set", f"precision={other}", code=2)
    assert f"the study was started with {precision}, the file now says {other}" in again.stderr


@pytest.mark.slow
def test_a_study_keeps_the_budget_that_it_has_begun(finished: Workshop) -> None:
    again = finished.tuner("run-study", "study.yaml", "--trials", "2")

    assert "keeping its budget of 3" in again.stderr
    assert "shapes: 3 completed" in again.stdout


def test_what_trials_print_is_kept(finished: Workshop) -> None:
    logs = list((finished.folder / ".tuner" / "studies" / "shapes").glob("*/attempts/*/output.log"))

    assert len(logs) == 3
    assert all("building shapes" in log.read_text() for log in logs)


def test_studies_are_listed(finished: Workshop) -> None:
    assert re.search(
        r"shapes\s+shapes:load\s+networks:build\s+3/3\s+done", finished.tuner("studies").stdout
    )


def looked_at(workshop: Workshop) -> list[int]:
    """The trials for whose sake the test set was opened, in order."""
    with closing(sqlite3.connect(workshop.folder / ".tuner" / "tuner.db")) as database:
        rows = database.execute("SELECT trial FROM tuner_looks ORDER BY id").fetchall()
    return [trial for (trial,) in rows]


@pytest.mark.slow
def test_a_promotion_that_is_killed_is_finished_by_others_of_which_one_wins(
    finished: Workshop, tmp_path: Path
) -> None:
    copy = Workshop(shutil.copytree(finished.folder, tmp_path / "copy"))
    store = f"sqlite:///{copy.folder}/.tuner/mlflow.db"
    client = MlflowClient(store)

    killed = copy.start(
        "promote",
        "best",
        also={"PYTHONPATH": str(SITE), **KillPoint.ALIAS_NOT_MOVED.environment()},
    )
    killed.communicate()
    assert killed.returncode == -signal.SIGKILL
    (left,) = client.search_model_versions("name = 'shapes'")
    assert client.get_registered_model("shapes").aliases == {}

    elsewhere = {
        "TUNER_HOME": str(tmp_path / "elsewhere"),
        "TUNER_STORAGE_URL": f"sqlite:///{copy.folder}/.tuner/tuner.db",
        "MLFLOW_TRACKING_URI": store,
    }
    both = [copy.start("promote", "best", also=also) for also in ({}, elsewhere)]
    said = [promotion.communicate()[1] for promotion in both]
    codes = [promotion.returncode for promotion in both]

    assert 0 in codes, said
    for code, text in zip(codes, said, strict=True):
        assert code == 0 or (code == 1 and "meanwhile" in text), text
    assert client.get_registered_model("shapes").aliases == {"champion": left.version}
    champion = client.get_model_version_by_alias("shapes", "champion")
    assert champion.status == "READY"
    assert champion.tags["tuner.model.sha256"]


@pytest.mark.slow
def test_the_best_is_promoted_and_answers(finished: Workshop, tmp_path: Path) -> None:
    report = json.loads(finished.tuner("promote", "best", "--json").stdout)
    assert set(report) == {
        "promoted", "model", "version", "alias", "run_id", "metrics", "gates", "champion",
        "reigning", "replace", "challenger", "validation", "grounds", "test_set_use",
    }  # fmt: skip
    assert report["validation"]["rows"] == 40
    assert report["champion"] is None
    assert report["grounds"]["lines"] == ["not confirmed (confirmation: off)"]
    assert (report["promoted"], report["version"], report["alias"]) == (True, 1, "champion")
    assert [gate["passed"] for gate in report["gates"]] == [True, True]
    assert report["run_id"] == finished.shown()["best"]["trial"]["run_id"]

    photo = tmp_path / "square.png"
    drawn = np.full((90, 120), 230, np.uint8)
    drawn[30:60, 40:70] = 20
    Image.fromarray(drawn).save(photo)
    text = tmp_path / "notes.txt"
    text.write_text("no picture")
    asked = finished.tuner("predict", str(text), str(photo), "missing.png", "--json", code=4)
    unread, answer, missing = json.loads(asked.stdout)
    assert answer["label"] == "0"
    assert answer["probability"] > 0.5
    assert unread == {
        "image": str(text),
        "error": f"{text}: is no picture in a format that Pillow reads",
    }
    assert missing == {"image": "missing.png", "error": "missing.png: there is no such file"}
    for each in (unread, missing):
        assert each["error"] in asked.stderr
    assert "2 of 3 images could not be classified" in asked.stderr

    assert "accesses to the test set: 1" in finished.tuner("show", "shapes").stdout


def test_gates_that_were_edited_in_the_file_are_not_passed_over(finished: Workshop) -> None:
    file = finished.folder / "study.yaml"
    as_run = file.read_text()
    file.write_text(as_run.replace("test_accuracy: 0.8", "test_accuracy: 0.7"))
    try:
        refused = finished.tuner("promote", "best", "shapes", code=1)
    finally:
        file.write_text(as_run)

    assert "test_accuracy: the file now says 0.7, the study was last run with 0.8" in refused.stderr
    assert f"tuner promote best shapes --file {file}" in refused.stderr


@pytest.mark.slow
def test_a_gate_that_fails_changes_nothing(finished: Workshop) -> None:
    impossible = ["--set", "promotion.gates.latency_p95_ms=0.0001", "--set", "promotion.model=new"]
    finished.tuner("run-study", "study.yaml", *impossible)

    refused = finished.tuner("promote", "best", "shapes", code=1)

    assert "not promoted, nothing was registered: latency_p95_ms is" in refused.stderr
    assert "missed by" in refused.stderr


@pytest.mark.slow
def test_one_trial_that_cannot_be_scored_leaves_the_others_their_figures(
    finished: Workshop, tmp_path: Path
) -> None:
    copy = Workshop(shutil.copytree(finished.folder, tmp_path / "copy"))
    first, second, third = copy.shown()["trials"]
    counted = len(looked_at(copy))
    shutil.rmtree(copy.folder / ".tuner" / "models", ignore_errors=True)
    with closing(sqlite3.connect(copy.folder / ".tuner" / "mlflow.db")) as store, store:
        moved = "UPDATE runs SET artifact_uri = ? WHERE run_uuid = ?"
        store.execute(moved, (str(tmp_path / "elsewhere"), second["run_id"]))

    partly = copy.tuner("evaluate", "shapes", "--all", "--json", code=4)

    found = json.loads(partly.stdout)
    assert set(found) == {str(first["number"]), str(third["number"])}
    assert all(each["accuracy"] > 0.4 and len(each["confusion"]) == 2 for each in found.values())
    assert "1 of 3 trials were not scored" in partly.stderr
    assert f"trial 1: run {second['run_id']}" in partly.stderr
    assert "keeps no model" in partly.stderr
    assert sorted(map(str, looked_at(copy)[counted:])) == sorted(found)
    uses = [each["test_set_use"] for each in found.values()]
    assert [each["access"] for each in uses] == [counted + 1, counted + 2]
    assert uses[-1]["models"] == len({*looked_at(copy)})


def test_a_port_that_is_taken_is_named(finished: Workshop) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        refused = finished.tuner("ui", "--port", str(port), code=3)

    assert f"port {port} of 127.0.0.1 is taken" in refused.stderr
