import json
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import psutil
import pytest
from PIL import Image

from tests.cli.conftest import Workshop

MODULES_THAT_COST = ("tensorflow", "keras", "mlflow", "optuna", "sqlalchemy", "sklearn", "numpy")


def shown(workshop: Workshop, study: str = "shapes") -> dict[str, object]:
    content: dict[str, object] = json.loads(workshop.tuner("show", study, "--json").stdout)
    return content


def test_a_strangers_data_and_model_are_tuned(finished: Workshop) -> None:
    study = shown(finished)

    assert study["counts"] == {
        "completed": 3, "pruned": 0, "failed": 0, "running": 0, "waiting": 0,
    }  # fmt: skip
    first = study["trials"][0]  # type: ignore[index]
    assert first["params"] == {"learning_rate": 0.01, "width": 16}
    assert set(study["best"]) >= {"number", "state", "params", "value", "epochs", "run_id"}  # type: ignore[call-overload]
    assert all(trial["run_id"] for trial in study["trials"])  # type: ignore[attr-defined]


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


def test_what_trials_print_is_kept(finished: Workshop) -> None:
    logs = list((finished.folder / ".tuner" / "studies" / "shapes").glob("attempts/*/output.log"))

    assert len(logs) == 3
    assert all("building shapes" in log.read_text() for log in logs)


def test_studies_are_listed(finished: Workshop) -> None:
    assert re.search(
        r"shapes\s+shapes:load\s+shapes:build\s+3/3\s+no", finished.tuner("studies").stdout
    )


def test_the_best_is_promoted_and_answers(finished: Workshop, tmp_path: Path) -> None:
    dry = json.loads(finished.tuner("promote", "best", "--dry-run", "--json").stdout)
    assert (dry["promoted"], dry["version"]) == (False, None)

    report = json.loads(finished.tuner("promote", "best", "shapes", "--json").stdout)
    assert set(report) == {"promoted", "model", "version", "alias", "run_id", "metrics", "gates"}
    assert (report["promoted"], report["version"], report["alias"]) == (True, 1, "champion")
    assert [gate["passed"] for gate in report["gates"]] == [True, True]
    assert report["run_id"] == shown(finished)["best"]["run_id"]  # type: ignore[index]

    photo = tmp_path / "square.png"
    drawn = np.full((90, 120), 230, np.uint8)
    drawn[30:60, 40:70] = 20
    Image.fromarray(drawn).save(photo)
    (answer,) = json.loads(finished.tuner("predict", str(photo), "--json").stdout)
    assert answer["label"] == "0"
    assert answer["probability"] > 0.5

    assert "looks at the test set: 2" in finished.tuner("show", "shapes").stdout


def test_a_gate_that_fails_changes_nothing(finished: Workshop) -> None:
    impossible = ["--set", "promotion.gates.latency_p95_ms=0.0001", "--set", "promotion.model=new"]
    finished.tuner("run-study", "study.yaml", *impossible)

    refused = finished.tuner("promote", "best", "shapes", code=1)

    assert "not promoted, nothing was changed: latency_p95_ms is" in refused.stderr
    assert "short by" in refused.stderr
    missing = finished.tuner("predict", "x.png", "--model", "new", code=1)
    assert "nothing promoted yet" in missing.stderr


def test_the_test_set_is_opened_on_request_and_counted(finished: Workshop) -> None:
    found = json.loads(finished.tuner("evaluate", "shapes", "--trial", "0", "--json").stdout)

    assert found["0"]["accuracy"] > 0.5
    assert len(found["0"]["confusion"]) == 2


def test_signals_hand_trials_back_and_the_study_still_ends_exact(
    make_workshop: Callable[[str], Workshop],
) -> None:
    workshop = make_workshop("interrupted")
    long = ["run-study", "study.yaml", "--epochs", "3000", "--trials", "2", "--workers", "2"]
    for number, code in ((signal.SIGINT, 130), (signal.SIGTERM, 143)):
        running = workshop.start(*long)
        trainers = _after_first_epoch(running)
        running.send_signal(number)
        running.communicate()
        assert running.returncode == code
        _, alive = psutil.wait_procs(trainers, timeout=60)
        assert not alive
        assert shown(workshop)["counts"]["waiting"] == 2  # type: ignore[index]

    workshop.tuner(*long)

    study = shown(workshop)
    assert study["counts"]["completed"] == len(study["trials"]) == 2  # type: ignore[index,arg-type]


def test_a_study_whose_every_trial_fails_exits_1(make_workshop: Callable[[str], Workshop]) -> None:
    workshop = make_workshop("failing")
    source = workshop.folder / "shapes.py"
    source.write_text(source.read_text().replace('activation="softmax"', 'activation="linear"'))

    failed = workshop.tuner("run-study", "study.yaml", "--trials", "1", code=1)

    assert "every trial failed" in failed.stderr
    assert "end the network with a softmax" in failed.stderr
    nothing = workshop.tuner("promote", "best", code=1)
    assert "no study here has a completed trial" in nothing.stderr


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["run-study", "missing.yaml"], 2, "missing.yaml: "),
        (["run-study", "study.yaml", "--trials", "0"], 2, "trials"),
        (["run-study", "study.yaml", "--set", "search_space.wdth=3"], 2, "did you mean 'width'?"),
        (["run-study", "study.yaml", "--set", "model=paper-cn"], 4, "did you mean 'paper-cnn'?"),
        (["run-study", "study.yaml", "--set", "dataset=minst"], 2, "did you mean 'mnist'?"),
        (["run-study", "study.yaml", "--set", "model=shapes:bild"], 4, "did you mean 'build'?"),
        (["run-study", "study.yaml", "--set", "validation=500"], 4, "500"),
        (["run-study", "study.yaml", "--workers", "10000"], 3, "lower --workers"),
        (["show", "nothing"], 2, "no study 'nothing'"),
        (["stop", "nothing"], 2, "no study 'nothing'"),
        (["promote", "best"], 1, "nothing to promote"),
        (["promote", "worst"], 2, "worst"),
        (["frobnicate"], 2, "frobnicate"),
        (["predict", "picture.png", "--model", "none"], 1, "nothing promoted yet"),
    ],
)
def test_what_cannot_be_meant_is_refused_in_one_line(
    make_workshop: Callable[[str], Workshop], arguments: list[str], code: int, said: str
) -> None:
    refused = make_workshop("refused").tuner(*arguments, code=code)

    assert said in refused.stderr
    assert "Traceback" not in refused.stderr


def test_debugging_shows_the_traceback(make_workshop: Callable[[str], Workshop]) -> None:
    refused = make_workshop("debug").tuner("--debug", "show", "nothing", code=1)

    assert "Traceback" in refused.stderr


def test_a_port_that_is_taken_is_named(finished: Workshop) -> None:
    import socket

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        refused = finished.tuner("ui", "--port", str(port), code=3)

    assert f"port {port} of 127.0.0.1 is taken" in refused.stderr


def test_the_command_line_imports_nothing_that_costs() -> None:
    program = (
        "import sys, tuner.cli.main\n"
        f"print([name for name in {MODULES_THAT_COST} if name in sys.modules])"
    )

    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, check=True, text=True
    )

    assert done.stdout.strip() == "[]"


def test_a_deleted_study_is_gone(make_workshop: Callable[[str], Workshop]) -> None:
    workshop = make_workshop("deleted")
    workshop.tuner("run-study", "study.yaml", "--trials", "1", "--epochs", "1")
    waiting = workshop.tuner("enqueue", "shapes", "width=8")
    assert "1 waiting in line" in waiting.stderr

    gone = workshop.tuner("delete", "shapes", "--yes")

    assert "deleted 2 MLflow runs" in gone.stderr
    workshop.tuner("show", "shapes", code=2)


def _after_first_epoch(running: "subprocess.Popen[str]") -> list[psutil.Process]:
    """Waits until a trial has reported an epoch; returns the processes that the driver started."""
    assert running.stderr is not None
    for line in running.stderr:
        if re.search(r"trial \d epoch 1/", line):
            children: list[psutil.Process] = psutil.Process(running.pid).children(recursive=True)
            return children
    raise AssertionError("the study ended before its first epoch")
