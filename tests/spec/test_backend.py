"""Which backend a study means when it names one, and when it leaves it to the environment."""

import pytest

from tuner.errors import SpecError
from tuner.spec.resume import resume_problems
from tuner.spec.study_spec import StudySpec
from tuner.spec.text.reader import parse_study
from tuner.spec.text.writer import to_yaml

STUDY = """
name: first
dataset: mnist
model: paper-cnn
epochs: 2
validation: 10000
"""


def study(*overrides: str) -> StudySpec:
    return parse_study(STUDY, "study.yaml", overrides)


@pytest.mark.parametrize(
    ("variable", "backend"),
    [(None, "tensorflow"), ("", "tensorflow"), ("tensorflow", "tensorflow"), ("jax", "jax")],
)
def test_the_variable_is_read_once_and_written_out(
    variable: str | None, backend: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if variable is not None:
        monkeypatch.setenv("KERAS_BACKEND", variable)
    spec = study()
    assert spec.backend == backend
    monkeypatch.setenv("KERAS_BACKEND", "torch")
    assert parse_study(to_yaml(spec), "the database").backend == backend


def test_a_variable_that_names_no_backend_of_ours_is_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("KERAS_BACKEND", "torch")
    with pytest.raises(SpecError) as refused:
        study()
    assert refused.value.problems == (
        "backend: must be tensorflow or jax, but KERAS_BACKEND is 'torch'; name one in the file",
    )
    assert study("backend=jax").backend == "jax"


def test_a_study_that_goes_on_with_another_variable_is_told_so(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    stored = study("backend=jax")
    assert resume_problems(stored, study()) == [
        "backend: the study was started with jax, the file leaves it to KERAS_BACKEND, "
        "which means tensorflow"
    ]
    monkeypatch.setenv("KERAS_BACKEND", "jax")
    assert resume_problems(stored, study()) == []
