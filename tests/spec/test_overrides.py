"""`--set key=value`: what it changes, and what its messages name."""

import pytest

from tuner.errors import SpecError, UsageError
from tuner.spec.objective import Objective
from tuner.spec.samplers import Hyperband, Random, Tpe
from tuner.spec.study_spec import StudySpec
from tuner.spec.text.reader import parse_study

STUDY = """\
name: a
dataset: mnist
model: paper-cnn
search_space:
  dropout_rate: {type: float, low: 0.2, high: 0.7}
  batch_size: {type: choice, choices: [64, 128]}
baseline:
  - {dropout_rate: 0.5, batch_size: 128}
objective: {metric: val_accuracy, direction: maximize}
sampler: tpe
pruner: {type: median, n_startup_trials: 2}
trials: 3
epochs: 2
validation: 100
promotion: {gates: {test_accuracy: 0.99}}
"""


def study(*overrides: str) -> StudySpec:
    return parse_study(STUDY, "study.yaml", overrides)


def refusal(*overrides: str) -> str:
    with pytest.raises(UsageError) as refused:
        study(*overrides)
    return str(refused.value)


def test_an_entry_is_replaced() -> None:
    assert study("epochs=5", "name=b").model_dump(include={"epochs", "name"}) == {
        "epochs": 5,
        "name": "b",
    }


def test_the_last_one_wins() -> None:
    assert study("epochs=5", "epochs=7").epochs == 7


def test_a_value_may_hold_an_equals_sign() -> None:
    assert study("search_space.note=a=b").fixed == {"note": "a=b"}


def test_a_value_is_yaml() -> None:
    changed = study("search_space.dropout_rate={type: float, low: 1e-3, high: 0.5}")

    assert 0.002 in changed.domains["dropout_rate"]


def test_a_domain_can_be_fixed() -> None:
    assert study("search_space.dropout_rate=0.5").fixed == {"dropout_rate": 0.5}


@pytest.mark.parametrize("key", ["baseline[0].dropout_rate", "baseline.0.dropout_rate"])
def test_a_list_is_reached_by_index(key: str) -> None:
    assert study(f"{key}=0.3").baseline == ({"dropout_rate": 0.3, "batch_size": 128},)


def test_a_short_form_can_be_added_to() -> None:
    changed = study("sampler.n_startup_trials=4", "dataset.args.size=28")

    assert changed.sampler == Tpe(n_startup_trials=4)
    assert changed.dataset.model_dump() == {"name": "mnist", "args": {"size": 28}}


def test_a_long_form_can_become_short() -> None:
    changed = study("pruner=hyperband", "sampler=random")

    assert (changed.pruner, changed.sampler) == (Hyperband(), Random())


def test_another_kind_drops_what_belonged_to_the_old_one() -> None:
    changed = study("objective.metric=val_loss", "pruner.type=hyperband")

    assert changed.objective == Objective(metric="val_loss")
    assert changed.pruner == Hyperband()


def test_an_option_of_the_same_kind_keeps_the_others() -> None:
    pruner = study("pruner.n_warmup_steps=1").pruner

    assert pruner.model_dump() == {
        "type": "median",
        "n_startup_trials": 2,
        "n_warmup_steps": 1,
        "interval_steps": 1,
    }


def test_null_takes_a_gate_away() -> None:
    assert study("promotion.gates.test_accuracy=").promotion.gates.test_accuracy is None


def test_an_entry_that_the_file_lacks_is_added() -> None:
    assert study("promotion.gates.train_test_gap=0.1").promotion.gates.train_test_gap == 0.1


@pytest.mark.parametrize("text", ["epochs", "=3", "a..b=1", ".a=1", ""])
def test_what_is_no_override_is_refused(text: str) -> None:
    assert refusal(text) == f"--set {text}: must be key=value, such as --set epochs=3"


def test_an_index_beyond_the_list_is_refused() -> None:
    expected = "--set baseline[1].x=1: '1' must be an index of a list of 1, counted from 0"

    assert refusal("baseline[1].x=1") == expected


def test_a_value_that_is_no_yaml_is_refused() -> None:
    assert refusal("trials=[1") == (
        "--set trials=[1: line 1, column 3: expected ',' or ']', but got '<stream end>'"
    )


def test_a_broken_rule_names_the_override_that_broke_it() -> None:
    message = refusal("trials=4", "epochs=0", "sampler.startup=1")

    assert message == (
        "--set epochs=0 --set sampler.startup=1: sampler.startup: unknown key 'startup'; "
        "did you mean 'n_startup_trials'? (known: multivariate, n_startup_trials, type)\n"
        "--set epochs=0 --set sampler.startup=1: epochs: must be >= 1, got 0"
    )


def test_an_unknown_key_is_reported_as_in_a_file() -> None:
    assert refusal("epoch=3").startswith(
        "--set epoch=3: epoch: unknown key 'epoch'; did you mean 'epochs'? (known: "
    )


def test_a_rule_broken_elsewhere_names_the_file_and_the_overrides() -> None:
    assert refusal("sampler=grid") == (
        "study.yaml with --set sampler=grid: "
        "search_space.dropout_rate: a grid needs a step or choices, got neither"
    )


def test_a_file_that_is_wrong_by_itself_is_named() -> None:
    with pytest.raises(SpecError) as refused:
        parse_study(STUDY + "who: me\n", "study.yaml", ["epochs=3"])

    assert refused.value.source == "study.yaml with --set epochs=3"


def test_a_scalar_gives_way_to_a_deeper_key() -> None:
    message = refusal("search_space.dropout_rate=0.5", "search_space.dropout_rate.low=0.1")

    assert message.endswith(
        "search_space.dropout_rate.type: is required (known: choice, float, int)"
    )
