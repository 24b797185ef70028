"""Points typed on a command line, and studies that go on with a changed file."""

import pytest

from tuner.errors import UsageError
from tuner.spec.resume import resume_problems, with_stored_choices
from tuner.spec.study_spec import StudySpec
from tuner.spec.text.overrides import point_from_text
from tuner.spec.text.reader import parse_study

STUDY = """\
name: a
dataset: mnist
model: paper-cnn
search_space:
  learning_rate: {type: float, low: 1e-4, high: 1, log: true}
  dropout_rate: {type: float, low: 0.2, high: 0.7}
  dense_units: {type: int, low: 32, high: 128, step: 32}
  batch_size: {type: choice, choices: [64, 128]}
  pooling: {type: choice, choices: [max, average]}
  optimizer: adam
trials: 3
epochs: 2
validation: 100
"""


def study(*overrides: str) -> StudySpec:
    return parse_study(STUDY, "study.yaml", overrides)


def test_a_point_is_typed_by_its_search_space() -> None:
    texts = ["learning_rate=1", "dropout_rate=0.5", "dense_units=64", "pooling=max"]

    point = point_from_text([*texts, "batch_size=128", "optimizer=adam"], study())

    assert point == {
        "learning_rate": 1.0,
        "dropout_rate": 0.5,
        "dense_units": 64,
        "pooling": "max",
        "batch_size": 128,
        "optimizer": "adam",
    }
    assert type(point["learning_rate"]) is float


REFUSED = {
    "learning_rate": "learning_rate: must be name=value, such as learning_rate=0.001",
    "=3": "=3: must be name=value, such as learning_rate=0.001",
    "learning_rate=": "learning_rate=: must be a number, text or true/false, got null",
    "learning_rate=[1]": "learning_rate=[1]: must be a number, text or true/false, got a list",
    "learning_rate=2": "learning_rate: must be a number from 0.0001 to 1.0, got 2.0",
    "learning_rate=.nan": "learning_rate: must be a number from 0.0001 to 1.0, got nan",
    "dropout_rate=true": "dropout_rate: must be a number from 0.2 to 0.7, got true",
    "dense_units=33": "dense_units: must be a whole number from 32 to 128 in steps of 32, got 33",
    "batch_size=64.0": "batch_size: must be one of 64, 128, got 64.0",
    "batch_size='64'": "batch_size: must be one of 64, 128, got '64'",
    "pooling=mean": "pooling: must be one of 'max', 'average', got 'mean'",
    "optimizer=sgd": "optimizer: is fixed at 'adam', got 'sgd'",
    "dropout=0.5": (
        "dropout: unknown parameter 'dropout'; did you mean 'dropout_rate'? (known: batch_size, "
        "dense_units, dropout_rate, learning_rate, optimizer, pooling)"
    ),
}


@pytest.mark.parametrize("text", REFUSED)
def test_a_point_outside_the_search_space_is_refused(text: str) -> None:
    with pytest.raises(UsageError) as refused:
        point_from_text([text], study())

    assert str(refused.value) == REFUSED[text]


def test_all_that_is_wrong_with_a_point_is_reported_at_once() -> None:
    with pytest.raises(UsageError) as refused:
        point_from_text(["batch_size=1", "dense_units=64", "dense_units=32"], study())

    assert str(refused.value) == (
        "batch_size: must be one of 64, 128, got 1\ndense_units: is given twice"
    )


@pytest.mark.parametrize(
    "change",
    [
        "trials=30",
        "trials=1",
        "workers=2",
        "max_retries=0",
        "epoch_limit_s=60",
        "keep_models=9",
        "pruner=none",
        "promotion.gates.test_accuracy=0.5",
        "promotion.model=other",
    ],
)
def test_what_leaves_the_trials_comparable_may_change(change: str) -> None:
    assert resume_problems(study(), study(change)) == []


CHANGED = {
    "epochs=3": "epochs: the study was started with 2, the file now says 3",
    "seeds=2": "seeds: the study was started with 1, the file now says 2",
    "seed=1": "seed: the study was started with 0, the file now says 1",
    "dataset=digits": "dataset: the study was started with mnist, the file now says digits",
    "backend=jax": "backend: the study was started with tensorflow, the file now says jax",
    "pixels=bytes": "pixels: the study was started with unit, the file now says bytes",
    "precision=bfloat16": (
        "precision: the study was started with auto, the file now says bfloat16"
    ),
    "objective=val_loss": (
        "objective: the study was started with {metric: val_accuracy, direction: maximize}, "
        "the file now says {metric: val_loss, direction: minimize}"
    ),
    "sampler=random": (
        "sampler: the study was started with {type: tpe, n_startup_trials: 10, "
        "multivariate: true}, the file now says random"
    ),
    "baseline=[{dropout_rate: 0.5}]": (
        "baseline: the study was started with [], the file now says [{dropout_rate: 0.5}]"
    ),
    "search_space.dropout_rate.low=0.1": (
        "search_space.dropout_rate: the study was started with "
        "{type: float, low: 0.2, high: 0.7}, "
        "the file now says {type: float, low: 0.1, high: 0.7}"
    ),
    "search_space.filters=16": (
        "search_space.filters: the study was started with nothing, the file now says 16"
    ),
    "search_space.optimizer={type: choice, choices: [adam, sgd]}": (
        "search_space.optimizer: the study was started with adam, "
        "the file now says {type: choice, choices: [adam, sgd]}"
    ),
}


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_what_the_file_leaves_open_stays_as_it_was_settled(precision: str) -> None:
    stored, wanted = study(f"precision={precision}"), study()
    assert wanted.precision == "auto"
    assert resume_problems(stored, wanted) == []
    assert with_stored_choices(stored, wanted) == stored
    assert with_stored_choices(stored, stored) == stored


def test_a_pruner_that_the_file_leaves_open_stays_as_the_study_has_it() -> None:
    """An earlier version implied another one for several seeds."""
    stored, wanted = study("seeds=3", "pruner=successive-halving"), study("seeds=3")
    assert wanted.pruner != stored.pruner
    assert with_stored_choices(stored, wanted).pruner == stored.pruner
    assert with_stored_choices(stored, study("seeds=3", "pruner=none")).pruner == wanted.pruner


@pytest.mark.parametrize("change", CHANGED)
def test_what_makes_trials_incomparable_is_refused_with_both_values(change: str) -> None:
    assert resume_problems(study(), study(change)) == [CHANGED[change]]


def test_a_parameter_that_is_gone_is_named() -> None:
    without = parse_study(STUDY.replace("  optimizer: adam\n", ""), "study.yaml")

    assert resume_problems(study(), without) == [
        "search_space.optimizer: the study was started with adam, the file now says nothing"
    ]
