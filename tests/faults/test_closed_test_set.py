"""Only what judges a candidate opens test rows; trainers, confirmations and searches cannot."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import tuner
from tests.faults.conftest import Place
from tuner.datasets import prepare

PACKAGE = Path(tuner.__file__).parent
OPENERS = {
    "datasets/store.py": "writes them, and checks that they are what was written",
    "datasets/validation.py": "checks what the user's function returned",
    "promotion/judging/evidence.py": "scores models on them, each time with a record",
}
"""The only modules that name the test rows of a data set, and why."""
CONFIRM = ("confirm", "fault", "--finalists", "2", "--max-seeds", "5")


@pytest.mark.slow
def test_a_study_and_its_confirmation_run_while_the_test_set_is_closed(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever wants a test row is refused, and noted even where it goes on without."""
    note = place.folder / "opened.txt"
    monkeypatch.setenv("FAULT_CLOSED", str(note))
    monkeypatch.setenv("FAULT_ENGINE", "tensorflow")
    place.write_study(
        space={"learning_rate": {"type": "float", "low": 0.001, "high": 0.1, "log": True}},
        baseline=[{"learning_rate": 0.002}],
        sampler={"type": "tpe", "n_startup_trials": 2},
        trials=4,
        epochs=2,
    )

    assert place.run() == 0, place.said()
    place.check(trials=4)
    assert place.run(command=CONFIRM) == 0, place.said()

    confirmed = place.trials("fault-confirmation")
    assert len(confirmed) >= 6
    assert {row.state.name for row in confirmed} == {"COMPLETE"}
    assert set(note.read_text().split()) == {prepare.__name__}
    refused = open_test_rows(place)
    assert "PermissionError: [Errno 13] the test set is closed" in refused
    assert note.read_text().endswith("another\n")


def open_test_rows(place: Place) -> str:
    """The error of a program that tries to."""
    (images,) = place.folder.glob("home/datasets/*/test/images.npy")
    assert len(np.load(images)) == 597, "they are there"
    asked = subprocess.run(
        [sys.executable, "-c", "import sys, numpy; numpy.load(sys.argv[1])", str(images)],
        env=place.environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    return asked.stderr


def test_no_other_module_names_the_test_rows() -> None:
    modules = {path.relative_to(PACKAGE).as_posix(): path for path in PACKAGE.rglob("*.py")}
    found = {name for name, path in modules.items() if any(rows_named(path.read_text()))}
    assert found == OPENERS.keys()


def test_a_module_that_names_test_rows_is_found() -> None:
    for source in ("read_arrays(plan.dataset.test)", "folder / 'test' / 'images.npy'", "info.test"):
        assert any(rows_named(source)), source
    for source in ("report.evidence.test.accuracy", "from tuner import test", "dataset.train"):
        assert not any(rows_named(source)), source


def rows_named(source: str) -> Iterator[ast.AST]:
    """Where a source text names `.test` of anything but evidence, or a path's part `test`."""
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.Attribute(value=owner, attr="test") if _last_name(owner) != "evidence":
                yield node
            case ast.BinOp(op=ast.Div(), right=ast.Constant(value="test")):
                yield node


def _last_name(owner: ast.expr) -> str:
    return str(getattr(owner, "attr", getattr(owner, "id", "")))
