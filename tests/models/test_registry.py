import inspect
import subprocess
import sys
from collections.abc import Callable

import pytest

from tuner.errors import ModelError
from tuner.models import known_models
from tuner.spec.search_space import Scalar

SHAPE = (8, 8, 1)

SOFTMAX = """
import keras

def net(*, input_shape, classes, units, rate=0.25, act="relu"):
    return keras.Sequential([
        keras.Input(input_shape), keras.layers.Flatten(),
        keras.layers.Dense(units, activation=act), keras.layers.Dropout(rate),
        keras.layers.Dense(classes, activation="softmax"),
    ])
"""


WriteModule = Callable[[str], str]


def test_the_shipped_hyperparameters_and_their_defaults() -> None:
    assert known_models.hyperparameters("paper-cnn") == {
        "dropout_rate": 0.5,
        "filters": 32,
        "kernel_size": 3,
        "pooling": "max",
        "dense_units": 128,
        "depth": 2,
    }
    assert known_models.hyperparameters("dense") == {
        "dropout_rate": 0.5,
        "dense_units": 512,
        "depth": 2,
    }


def test_the_registry_imports_no_keras() -> None:
    code = (
        "import sys; from tuner.models.known_models import hyperparameters as of\n"
        "of('paper-cnn'), of('dense')\n"
        "print({'keras', 'tensorflow', 'numpy'} & set(sys.modules))"
    )
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "set()"


def test_a_users_function_from_a_folder(user_module: WriteModule) -> None:
    name = f"{user_module(SOFTMAX)}:net"
    assert known_models.hyperparameters(name) == {"units": None, "rate": 0.25, "act": "relu"}
    model = known_models.build(name, {"units": 5, "act": "tanh"}, SHAPE, 4)
    assert model.output_shape == (None, 4)
    assert model.count_params() == 65 * 5 + 6 * 4


def test_networks_that_cost_the_same_have_one_architecture(user_module: WriteModule) -> None:
    name = f"{user_module(SOFTMAX)}:net"
    points: list[dict[str, Scalar]] = [
        {"units": 5},
        {"units": 5, "rate": 0.5},
        {"units": 5, "act": "tanh"},
        {"units": 6},
    ]
    built = [known_models.architecture(known_models.build(name, each, SHAPE, 4)) for each in points]
    assert built[0] == built[1]
    assert len(set(built)) == 3


NESTED = """
import keras
import numpy as np

class Odd(keras.layers.Layer):
    def call(self, values):
        return values

    def get_config(self):
        return {**super().get_config(), "sizes": [np.int64(3)]}

def net(*, input_shape, classes, rate=0.1):
    inner = [keras.Input(input_shape), keras.layers.Flatten(), keras.layers.Dropout(rate), Odd()]
    end = keras.layers.Dense(classes, activation="softmax")
    return keras.Sequential([keras.Input(input_shape), keras.Sequential(inner), end])
"""


def test_rates_and_names_inside_a_network_make_no_other_architecture(
    user_module: WriteModule,
) -> None:
    name = f"{user_module(NESTED)}:net"
    built = [known_models.build(name, {"rate": rate}, SHAPE, 4) for rate in (0.1, 0.4)]
    assert known_models.architecture(built[0]) == known_models.architecture(built[1])


def test_the_module_of_a_users_function_and_of_no_other() -> None:
    assert known_models.module("not_there.networks:net") == {"not_there.networks"}
    assert known_models.module("paper-cnn") == set()
    with pytest.raises(ModelError, match="unknown model"):
        known_models.module("paper-cnm")


def test_defaults_that_are_no_scalars_are_shown_as_text(user_module: WriteModule) -> None:
    code = "def net(*rest, input_shape, classes, kernel=(3, 3), act=None, **more): ..."
    shown = known_models.hyperparameters(f"{user_module(code)}:net")
    assert shown == {"kernel": "(3, 3)", "act": "None"}


def test_a_default_that_is_no_text_is_shown_all_the_same(user_module: WriteModule) -> None:
    name = user_module(SOFTMAX.replace('act="relu"', r'act="\udce9"'))
    assert known_models.hyperparameters(f"{name}:net")["act"] == r"\udce9"


def test_a_model_that_is_built_by_its_first_input(user_module: WriteModule) -> None:
    code = SOFTMAX.replace("keras.Input(input_shape), ", "")
    model = known_models.build(f"{user_module(code)}:net", {"units": 3}, SHAPE, 4)
    assert model.count_params() == 65 * 3 + 4 * 4


@pytest.mark.parametrize("given", ["input_shape", "classes"])
def test_a_function_must_take_what_every_model_takes(user_module: WriteModule, given: str) -> None:
    taken = {"input_shape", "classes"} - {given}
    name = user_module(f"def net(*, {taken.pop()}, units=3): ...")
    with pytest.raises(ModelError, match=f"{name}:net: must take the keyword '{given}'"):
        known_models.hyperparameters(f"{name}:net")


@pytest.mark.parametrize(
    ("was", "becomes", "message"),
    [
        ("Dense(classes,", "Dense(classes + 1,", r"must output shape \(None, 4\), got \(None, 5\)"),
        ("keras.layers.Flatten(),", "", r"must output shape \(None, 4\), got \(None, 8, 8, 4\)"),
        ("return keras.Sequential([", "return list([", "must return a keras.Model, got list"),
        ("return keras", "keras", "must return a keras.Model, got NoneType"),
        (
            "units, activation=act",
            "-units",
            r"cannot be built with \{'units': 3\} for images of 8x8x1: .*-3",
        ),
    ],
)
def test_what_is_no_classifier_of_these_classes_is_refused(
    user_module: WriteModule, was: str, becomes: str, message: str
) -> None:
    assert was in SOFTMAX
    name = user_module(SOFTMAX.replace(was, becomes))
    with pytest.raises(ModelError, match=f"{name}:net: {message}"):
        known_models.build(f"{name}:net", {"units": 3}, SHAPE, 4)


OWN_TRAINING = """
import keras

class Own(keras.Sequential):
    def train_step(self, *arguments):
        return {}

def net(*, input_shape, classes, units):
    return Own([
        keras.Input(input_shape), keras.layers.Flatten(),
        keras.layers.Dense(classes, activation="softmax"),
    ])
"""
COMPILED = (
    SOFTMAX.replace("return", "model =")
    + """
    model.compile("sgd", "mse")
    return model
"""
)
SEVERAL_OUTPUTS = """
import keras

def net(*, input_shape, classes, units):
    start = keras.Input(input_shape)
    end = keras.layers.Dense(classes, activation="softmax")(keras.layers.Flatten()(start))
    return keras.Model(start, [end, end])
"""
SEVERAL_INPUTS = SEVERAL_OUTPUTS.replace("Model(start, [end, end])", "Model([start, start], end)")


@pytest.mark.parametrize(
    ("code", "message"),
    [
        (COMPILED, "must return an uncompiled model: optimizer and loss are the study's"),
        (OWN_TRAINING, r"Own\.train_step would not be called"),
        (SEVERAL_OUTPUTS, "must have one output, the class probabilities, got 2"),
        (SEVERAL_INPUTS, "must have one input, the images, got 2"),
    ],
    ids=["compiled", "train_step", "outputs", "inputs"],
)
def test_what_a_study_would_not_train_as_written_is_refused(
    user_module: WriteModule, code: str, message: str
) -> None:
    name = f"{user_module(code)}:net"
    with pytest.raises(ModelError, match=f"{name}: {message}"):
        known_models.build(name, {"units": 3}, SHAPE, 4)


def test_a_hyperparameter_without_a_default_must_be_given(user_module: WriteModule) -> None:
    name = user_module(SOFTMAX)
    with pytest.raises(ModelError, match=r"missing 1 required .* 'units'"):
        known_models.build(f"{name}:net", {}, SHAPE, 4)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("papercnn", r"unknown model 'papercnn'; did you mean 'paper-cnn'\? .*dense, paper-cnn"),
        ("no_such_module:net", "cannot import 'no_such_module'; put it beside the study file"),
    ],
)
def test_an_unknown_function_names_the_known(name: str, message: str) -> None:
    with pytest.raises(ModelError, match=message):
        known_models.hyperparameters(name)


def test_an_unknown_function_of_a_users_module_names_its_own(user_module: WriteModule) -> None:
    name = f"{user_module(SOFTMAX)}:nte"
    with pytest.raises(ModelError, match=r"'nte'; did you mean 'net'\?"):
        known_models.hyperparameters(name)


@pytest.mark.parametrize("name", known_models.BUILTIN)
def test_shipped_models_take_keywords_alone(name: str) -> None:
    function = known_models._function(name)
    kinds = {parameter.kind for parameter in inspect.signature(function).parameters.values()}
    assert kinds == {inspect.Parameter.KEYWORD_ONLY}
