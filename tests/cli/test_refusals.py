import os
import subprocess
import sys
from collections.abc import Callable

import pytest

from tests.cli.conftest import Workshop


@pytest.mark.slow
def test_a_study_whose_every_trial_fails_exits_1_and_can_be_deleted(
    make_workshop: Callable[[str], Workshop],
) -> None:
    workshop = make_workshop("failing")
    diverging = ("--set", "search_space.learning_rate=1e30", "--set", "baseline=[]")

    failed = workshop.tuner("run-study", "study.yaml", "--trials", "1", *diverging, code=1)

    assert "every trial failed" in failed.stderr
    assert "diverged: " in failed.stderr
    nothing = workshop.tuner("promote", "best", code=1)
    assert "no study here has a completed trial" in nothing.stderr

    waiting = workshop.tuner("enqueue", "shapes", "width=8")
    assert "1 queued for" in waiting.stderr
    assert "its budget has room for 0" in waiting.stderr
    gone = workshop.tuner("delete", "shapes", "--yes")
    assert "deleted 2 MLflow runs" in gone.stderr
    workshop.tuner("show", "shapes", code=2)


@pytest.mark.slow
def test_a_network_without_a_softmax_is_refused_before_anything_is_recorded(
    make_workshop: Callable[[str], Workshop],
) -> None:
    workshop = make_workshop("logits")
    source = workshop.folder / "networks.py"
    source.write_text(source.read_text().replace('activation="softmax"', 'activation="linear"'))
    unvalidated = ("--set", "validation=0", "--set", "objective.metric=loss")
    refused = workshop.tuner("run-study", "study.yaml", *unvalidated, code=4)
    assert "end the network with a softmax" in refused.stderr
    workshop.tuner("show", "shapes", code=2)


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["run-study", "missing.yaml"], 2, "missing.yaml: "),
        (["run-study", "study.yaml", "--trials", "0"], 2, "trials"),
        (["run-study", "study.yaml", "--set", "search_space.wdth=3"], 2, "did you mean 'width'?"),
        pytest.param(
            ["run-study", "study.yaml", "--set", "model=paper-cn"],
            4,
            "did you mean 'paper-cnn'?",
            marks=pytest.mark.slow,
        ),
        pytest.param(
            ["run-study", "study.yaml", "--set", "dataset=minst"],
            2,
            "did you mean 'mnist'?",
            marks=pytest.mark.slow,
        ),
        pytest.param(
            ["run-study", "study.yaml", "--set", "model=networks:bild"],
            4,
            "did you mean 'build'?",
            marks=pytest.mark.slow,
        ),
        pytest.param(
            ["run-study", "study.yaml", "--set", "validation=500"], 4, "500", marks=pytest.mark.slow
        ),
        pytest.param(
            ["run-study", "study.yaml", "--workers", "10000"],
            3,
            "lower --workers",
            marks=pytest.mark.slow,
        ),
        (["show", "nothing"], 2, "no study 'nothing'"),
        pytest.param(["stop", "nothing"], 2, "no study 'nothing'", marks=pytest.mark.slow),
        (["promote", "best"], 1, "nothing to promote"),
        (["promote", "worst"], 2, "worst"),
        (["frobnicate"], 2, "frobnicate"),
        pytest.param(
            ["predict", "picture.png", "--model", "none"],
            1,
            "nothing promoted yet",
            marks=pytest.mark.slow,
        ),
        (["predict", "picture.png"], 1, "no promoted model: no study in "),
    ],
)
def test_what_cannot_be_meant_is_refused_in_one_line(
    make_workshop: Callable[[str], Workshop], arguments: list[str], code: int, said: str
) -> None:
    refused = make_workshop("refused").tuner(*arguments, code=code)

    assert said in refused.stderr
    assert "Traceback" not in refused.stderr


def test_a_folder_whose_path_is_no_text_is_refused(
    make_workshop: Callable[[str], Workshop],
) -> None:
    workshop = make_workshop("latin")
    strange = workshop.folder / os.fsdecode(b"caf\xe9")
    strange.mkdir()
    (workshop.folder / "study.yaml").rename(strange / "study.yaml")
    inside = Workshop(strange)

    assert (
        "the path must be text in UTF-8; set TUNER_HOME" in inside.tuner("studies", code=2).stderr
    )
    refused = workshop.tuner("run-study", str(strange / "study.yaml"), code=2)
    assert "the path must be text in UTF-8; rename the folder" in refused.stderr


def test_files_named_like_pythons_own_modules_are_not_imported_by_the_command(
    make_workshop: Callable[[str], Workshop],
) -> None:
    workshop = make_workshop("shadows")
    for name in ("signal", "statistics", "random", "queue"):
        (workshop.folder / f"{name}.py").write_text("raise RuntimeError('mine')")
    done = subprocess.run(
        [sys.executable, "-m", "tuner", "models"],
        cwd=workshop.folder,
        env=workshop.environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "paper-cnn" in done.stdout


@pytest.mark.slow
def test_debugging_shows_the_traceback(make_workshop: Callable[[str], Workshop]) -> None:
    refused = make_workshop("debug").tuner("--debug", "show", "nothing", code=2)

    assert "Traceback" in refused.stderr
