"""The data sets that a study can name, and how to call a data set function.

`tuner datasets` lists the names, so nothing heavy is imported until one is loaded.
"""

import inspect
import traceback
from collections.abc import Callable, Mapping
from importlib.metadata import entry_points
from typing import TYPE_CHECKING, Any

from tuner.errors import DataError, TunerError, UsageError, user_error_message
from tuner.references import is_import_path, resolve, users_module

if TYPE_CHECKING:
    from tuner.datasets.dataset import Dataset
    from tuner.spec.study_spec import DatasetReference

GROUP = "tuner.datasets"
"""The entry point group under which a package registers data set functions."""

BUILTIN = {
    "mnist": "tuner.datasets.builtin.mnist:load",
    "fashion-mnist": "tuner.datasets.builtin.fashion_mnist:load",
    "digits": "tuner.datasets.builtin.digits:load",
    "npz": "tuner.datasets.builtin.npz:load",
    "image-folder": "tuner.datasets.builtin.image_folder:load",
}

_DESCRIPTIONS = {
    "mnist": "70,000 handwritten digits, 28x28 grey; fetched once and verified",
    "fashion-mnist": "70,000 pieces of clothing, 28x28 grey; fetched once and verified",
    "digits": "1,797 handwritten digits, 8x8 grey; ships with scikit-learn",
    "npz": "a NumPy file with x_train, y_train, x_test, y_test; args: path",
    "image-folder": (
        "pictures in train/<class>/ and test/<class>/; args: path, size, grey, fit, background"
    ),
}


def names() -> dict[str, str]:
    """Every name that a study can use, sorted, with one line about it; imports no data set."""
    registered = {point.name: f"registered as {point.value}" for point in entry_points(group=GROUP)}
    return dict(sorted({**registered, **_DESCRIPTIONS}.items()))


def load(reference: "DatasetReference") -> "Dataset":
    """Calls the data set function that `reference` names, and checks what it returns.

    This runs the user's code, so the driver uses `prepare_apart`.

    Returns:
        The data set in the form that `standardize` describes.

    Raises:
        UsageError: there is no such function, or it does not take these arguments.
        DataError: the function failed, or what it returned breaks a rule.
    """
    from tuner.datasets.validation import standardize

    try:
        function = resolve(reference.name, BUILTIN, GROUP, UsageError)
        _check_arguments(reference.name, function, reference.args)
        returned = function(**reference.args)
    except TunerError:
        raise
    except Exception as error:  # the user's code runs in here
        raise DataError(f"data set {reference.name!r}: {_described(error)}") from error
    return standardize(reference.name, returned, _source(reference.name, function))


def module(name: str) -> frozenset[str]:
    """The module of a user's function, or none for a shipped one; imports nothing.

    Raises:
        UsageError: there is no such function.
    """
    return users_module(name, BUILTIN, GROUP, UsageError)


def _check_arguments(name: str, function: Callable[..., Any], args: Mapping[str, Any]) -> None:
    signature = inspect.signature(function)
    try:
        signature.bind(**args)
    except TypeError as error:
        accepted = ", ".join(signature.parameters) or "none"
        raise UsageError(
            f"data set {name!r}: {error}; got args {', '.join(args) or 'none'} "
            f"(accepted: {accepted})"
        ) from error


def _described(error: Exception) -> str:
    """The error in one line, with the line of code that raised it."""
    message = f"{type(error).__name__}: {user_error_message(error)}"
    frames = traceback.extract_tb(error.__traceback__)
    return f"{message} ({frames[-1].filename}:{frames[-1].lineno})" if frames else message


def _source(name: str, function: Callable[..., Any]) -> str:
    return name if is_import_path(name) else f"{function.__module__}:{function.__qualname__}"
