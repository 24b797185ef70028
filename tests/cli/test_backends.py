"""A study on JAX from end to end, and the refusal of another backend."""

import json
import os
from collections.abc import Callable

import pytest

from tests.cli.conftest import Workshop

STUDY = """
name: shapes
dataset: digits
model: dense
backend: jax
search_space:
  learning_rate: {type: float, low: 1e-3, high: 1e-2, log: true}
  dense_units: 32
trials: 1
epochs: 3
workers: 1
validation: 200
promotion:
  gates: {test_accuracy: 0.5}
"""


@pytest.fixture(scope="module")
def on_jax(make_workshop: Callable[[str], Workshop]) -> Workshop:
    """A workshop whose study of one trial has been run on JAX."""
    workshop = make_workshop("jax")
    (workshop.folder / "study.yaml").write_text(STUDY)
    done = workshop.tuner("run-study", "study.yaml")
    assert "loading JAX and the model dense" in done.stderr
    return workshop


@pytest.mark.slow
def test_a_study_is_promoted_on_its_backend(on_jax: Workshop) -> None:
    assert on_jax.shown()["counts"]["completed"] == 1
    promoted = on_jax.tuner("promote", "best", "--json")
    assert json.loads(promoted.stdout)["promoted"]
    requirements = next(on_jax.folder.glob(".tuner/mlartifacts/**/requirements.txt"))
    assert "\njax==" in requirements.read_text()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("stated", "variable", "said"),
    [
        ("backend: tensorflow\n", "jax", "with jax, the file now says tensorflow"),
        ("", "tensorflow", "with jax, the file leaves it to KERAS_BACKEND, which means tensorflow"),
        ("", "torch", "backend: must be tensorflow or jax, but KERAS_BACKEND is 'torch'"),
    ],
)
def test_a_driver_with_another_backend_is_refused(
    on_jax: Workshop, stated: str, variable: str, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KERAS_BACKEND", variable)
    other = STUDY.replace("backend: jax\n", stated)
    (on_jax.folder / "other.yaml").write_text(other)

    refused = on_jax.tuner("run-study", "other.yaml", code=2)

    assert said in refused.stderr
    assert on_jax.shown()["study"] == "shapes", "what is stored needs no variable"


def test_a_backend_that_is_not_installed_is_named_with_its_remedy(
    make_workshop: Callable[[str], Workshop], monkeypatch: pytest.MonkeyPatch
) -> None:
    workshop = make_workshop("without-jax")
    hidden = workshop.folder / "sitecustomize.py"
    hidden.write_text("import sys\nsys.modules['jax'] = None\n")
    monkeypatch.setenv("PYTHONPATH", str(workshop.folder) + os.pathsep)

    refused = workshop.tuner("run-study", "study.yaml", "--set", "backend=jax", code=3)

    assert "pip install 'tuner[jax]'" in refused.stderr
    assert "starting" not in refused.stderr
