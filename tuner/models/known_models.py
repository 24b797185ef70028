"""The models that a study can name: their parameters, their code, and how to build one.

A model is a function with the keyword parameters `input_shape` (height, width, channels)
and `classes`, and any hyperparameters of its own with defaults. It returns an uncompiled
`keras.Model` that takes float pixels, shape (N, *input_shape), and returns class
probabilities, shape (N, classes). A study names it as `package.module:function`, or it is
registered under the entry point group `tuner.models`.
"""

import inspect
import json
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tuner.errors import ModelError, encodable, unknown
from tuner.models.contract import check_network, check_trained_by_recipe, gist
from tuner.references import is_import_path, known_names, make_importable, resolve, users_module
from tuner.spec.search_space import Scalar

if TYPE_CHECKING:
    import keras

GROUP = "tuner.models"
_TOO_DEEP = ("zero or negative", "egative dimension")
"""Parts of the errors of Keras and its backends for a layer whose output would be empty."""
_TRIES = 16
"""The number of smaller values to try one by one, before the least."""
BUILTIN = {
    "paper-cnn": "tuner.models.paper_cnn:build",
    "dense": "tuner.models.dense:build",
}
_GIVEN = ("input_shape", "classes")
_COLLECTING = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)


def hyperparameters(name: str) -> dict[str, Scalar | None]:
    """The model function's own parameters and their defaults, None for one without a default.

    A default that is no scalar, such as None or a tuple, becomes its text. Importing a user's
    module runs the user's code; the shipped models import no Keras here.

    Raises:
        ModelError: there is no such function, or it lacks a keyword that every model takes.
    """
    function = _function(name)
    parameters = inspect.signature(function).parameters
    missing = [given for given in _GIVEN if given not in parameters]
    if missing:
        raise ModelError(f"{name}: must take the keyword {missing[0]!r}, see docs/extending.md")
    return {
        key: _shown_default(parameter)
        for key, parameter in parameters.items()
        if key not in _GIVEN and parameter.kind not in _COLLECTING
    }


def build_from(
    name: str, params: Mapping[str, Scalar], input_shape: tuple[int, int, int], classes: int
) -> "keras.Model":
    """Builds the model with those of a trial's parameters that its function takes.

    Raises:
        ModelError: see `build`.
    """
    taken = {key: params[key] for key in hyperparameters(name) if key in params}
    return build(name, taken, input_shape, classes)


def build(
    name: str, params: Mapping[str, Scalar], input_shape: tuple[int, int, int], classes: int
) -> "keras.Model":
    """Builds the model and checks it against the rules in `contract`.

    Raises:
        ModelError: the function refuses its arguments, or returns a model that breaks a rule.
    """
    import keras

    function = _function(name)
    try:
        model = function(input_shape=input_shape, classes=classes, **params)
    except (TypeError, ValueError) as refused:
        size = "x".join(map(str, input_shape))
        reason = gist(refused)
        if any(sign in reason for sign in _TOO_DEEP):
            given = {"input_shape": input_shape, "classes": classes}
            remedy = _remedy(function, given, {**_defaults(function), **params})
            reason = reason.rstrip(".") + remedy
        raise ModelError(
            f"{name}: cannot be built with {dict(params)} for images of {size}: {reason}"
        ) from refused
    if not isinstance(model, keras.Model):
        raise ModelError(f"{name}: must return a keras.Model, got {type(model).__name__}")
    check_trained_by_recipe(model, name)
    check_network(model, name, input_shape, classes)
    return model


def architecture(model: "keras.Model") -> str:
    """The SHA-256 of the layers' types, settings and weights' shapes, in hexadecimal.

    Settings that are fractions (such as rates), seeds and names are left out.
    """
    return sha256(json.dumps([_layer(layer) for layer in model.layers]).encode()).hexdigest()


def _layer(layer: "keras.Layer") -> list[object]:
    shapes = [list(weight.shape) for weight in layer.weights]
    inner = [_layer(each) for each in getattr(layer, "layers", ())]
    return [type(layer).__name__, {} if inner else _settings(layer), shapes, *inner]


def _settings(layer: "keras.Layer") -> dict[str, object]:
    try:
        config = layer.get_config()
    except Exception:  # noqa: BLE001 - the user's code runs in here, and it may not support saving
        return {}
    return {
        key: value
        for key, value in sorted(config.items())
        if _is_setting(value) and key not in ("name", "seed")
    }


def _is_setting(value: object) -> bool:
    if isinstance(value, tuple | list):
        return all(map(_is_setting, value))
    return isinstance(value, bool | int | str)


def check_name(name: str) -> None:
    """Checks that a name is known or an import path; imports no user's code.

    Raises:
        ModelError: there is no such model.
    """
    if not is_import_path(name) and name not in known_names(BUILTIN, GROUP):
        raise ModelError(unknown("model", name, known_names(BUILTIN, GROUP)))


def register_classes(name: str, code_path: Iterable[Path]) -> None:
    """Imports a user's model module, so that Keras knows the classes that it registers.

    Raises:
        ModelError: there is no such function.
    """
    if name not in BUILTIN:
        make_importable(code_path)
        _function(name)


def module(name: str) -> frozenset[str]:
    """The module of a user's function, or none for a shipped one; imports nothing.

    Raises:
        ModelError: there is no such model.
    """
    return users_module(name, BUILTIN, GROUP, ModelError)


def _shown_default(parameter: inspect.Parameter) -> Scalar | None:
    default = parameter.default
    if default is parameter.empty:
        return None
    if isinstance(default, int | float):
        return default
    return encodable(str(default))


def _defaults(function: Callable[..., Any]) -> dict[str, Any]:
    parameters = inspect.signature(function).parameters.values()
    return {each.name: each.default for each in parameters if each.default is not each.empty}


def _remedy(
    function: Callable[..., Any], given: Mapping[str, Any], params: Mapping[str, Any]
) -> str:
    """Names each whole-number parameter that alone, made smaller, lets the network be built."""

    def fits(name: str, value: int) -> bool:
        with suppress(TypeError, ValueError):
            return bool(function(**given, **{**params, name: value}))
        return False

    found = []
    for name, value in params.items():
        if type(value) is int and value > 0 and fits(name, least := min(1, value - 1)):
            nearest = range(value - 1, max(least, value - _TRIES), -1)
            found.append(f"{name}={next((each for each in nearest if fits(name, each)), least)}")
    remedy = f"{' or '.join(found)} would fit" if found else "use fewer layers, or padding"
    return f"; the network is too deep for such small images: {remedy}"


def _function(name: str) -> Callable[..., Any]:
    return resolve(name, BUILTIN, GROUP, ModelError)
