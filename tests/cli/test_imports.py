"""What keeps commands quick: the modules that they never load, whatever a machine's speed."""

import json
import os
import subprocess
import sys

import pytest

from tuner.home import Home

PROGRAM = """
import atexit, json, sys
loaded = lambda: sorted({name.partition(".")[0] for name in sys.modules})
atexit.register(lambda: print("\\n" + json.dumps(loaded()), file=sys.stderr))
from tuner.cli.main import main
main()
"""

FRAMEWORKS = {"tensorflow", "keras", "jax", "torch"}
DRAWING_AND_TABLES = {"matplotlib", "PIL", "pandas", "scipy", "sklearn"}
DATABASES = {"optuna", "sqlalchemy", "alembic", "numpy"}


def loaded_by(home: Home, *arguments: str, code: int = 0, **environment: str) -> set[str]:
    """The packages that a command has loaded when it ends."""
    done = subprocess.run(
        [sys.executable, "-P", "-c", PROGRAM, *arguments],
        cwd=home.root,
        env={**os.environ, "TUNER_HOME": str(home.root), **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == code, f"exit {done.returncode}: {done.stdout}\n{done.stderr}"
    return set(json.loads(done.stderr.splitlines()[-1]))


@pytest.mark.parametrize("arguments", [["--help"], ["--version"]])
def test_asking_for_help_loads_next_to_nothing(home: Home, arguments: list[str]) -> None:
    heavy = FRAMEWORKS | DRAWING_AND_TABLES | DATABASES | {"mlflow", "pydantic", "ruamel"}

    assert not loaded_by(home, *arguments) & heavy


@pytest.mark.slow_variants(quick=4)
@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["frobnicate"], 2),
        (["show"], 2),
        (["run-study", "missing.yaml"], 2),
        (["run-study", "empty.yaml"], 2),
        (["run-study", "--help"], 0),
        (["datasets"], 0),
        (["models"], 0),
        (["schema"], 0),
    ],
)
def test_what_needs_no_database_loads_none(home: Home, arguments: list[str], code: int) -> None:
    (home.root / "empty.yaml").touch()
    heavy = FRAMEWORKS | DRAWING_AND_TABLES | DATABASES | {"mlflow"}

    assert not loaded_by(home, *arguments, code=code) & heavy


@pytest.mark.slow_variants(quick=3)
@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["studies"], 0),
        (["show", "small"], 0),
        (["show", "small", "--json"], 0),
        (["show", "smal"], 2),
        (["stop", "small"], 1),
        (["enqueue", "small", "dropout_rate=0.5"], 0),
        (["promote", "small", "--trial", "0"], 1),
        (["evaluate", "smal"], 2),
        (["looks"], 0),
        (["delete", "small", "--yes", "--keep-runs"], 0),
    ],
)
def test_what_reads_the_database_loads_no_mlflow(
    studied: Home, arguments: list[str], code: int
) -> None:
    found = loaded_by(studied, *arguments, code=code)

    assert "sqlalchemy" in found
    assert not found & (FRAMEWORKS | DRAWING_AND_TABLES | {"mlflow"})


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "code"),
    [(["delete", "small", "--yes"], 0), (["predict", "one.png", "--model", "none"], 1)],
)
def test_what_speaks_to_mlflow_loads_no_framework(
    studied: Home, arguments: list[str], code: int
) -> None:
    found = loaded_by(studied, *arguments, code=code)

    assert "mlflow" in found
    assert not found & (FRAMEWORKS | {"matplotlib", "sklearn"})


def test_the_address_of_a_server_is_told_without_mlflow(home: Home) -> None:
    found = loaded_by(home, "ui", MLFLOW_TRACKING_URI="http://127.0.0.1:1")

    assert not found & (FRAMEWORKS | DRAWING_AND_TABLES | DATABASES | {"mlflow"})
