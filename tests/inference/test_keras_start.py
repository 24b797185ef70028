"""The backend that a promoted model is loaded with, in processes of their own."""

import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = """
import os, sys
from pathlib import Path
for missing in sys.argv[3:]:
    sys.modules[missing] = None
from tuner.inference.keras_start import start_keras
start_keras(Path(sys.argv[1]), sys.argv[2])
import keras
print(keras.backend.backend(), os.environ["KERAS_BACKEND"])
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("trained_on", "missing", "loaded"),
    [("jax", [], "jax"), ("tensorflow", ["tensorflow"], "jax")],
    ids=["the one it was trained on", "the one that is installed"],
)
def test_keras_starts_on_the_backend_of_the_study_where_it_is_installed(
    trained_on: str, missing: list[str], loaded: str, tmp_path: Path
) -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(tmp_path), trained_on, *missing],
        capture_output=True,
        check=True,
        text=True,
    )
    assert done.stdout.split() == [loaded, loaded]
    assert done.stderr == ""
