"""Finds the functions that a study names: registered ones and `package.module:function`.

Owns the one rule by which a name becomes a callable. A plain name is looked up among the
shipped functions, then among the entry points that installed packages register; a name
with a colon is imported. Importing a user's module runs the user's code, so only trainer
and data-preparing processes resolve such names, never the driver.
"""

import importlib
import inspect
import sys
from collections.abc import Callable, Iterable, Mapping
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

from tuner.errors import TunerError, unknown


def is_import_path(name: str) -> bool:
    """Whether `name` has the form `package.module:function`."""
    return ":" in name


def make_importable(folders: Iterable[Path]) -> None:
    """Puts folders first where modules are searched for, the first of them foremost."""
    for folder in reversed(list(folders)):
        if str(folder) not in sys.path:
            sys.path.insert(0, str(folder))


def known_names(builtin: Mapping[str, str], group: str) -> list[str]:
    """The shipped names and those registered under the entry point `group`, sorted."""
    return sorted({*builtin, *(point.name for point in entry_points(group=group))})


def resolve(
    name: str, builtin: Mapping[str, str], group: str, error: type[TunerError]
) -> Callable[..., Any]:
    """Returns the function that `name` stands for.

    Args:
        name: a key of `builtin`, an entry point of `group`, or `package.module:function`.
        builtin: shipped names and their import paths.
        group: the entry point group, such as `tuner.models`.
        error: what to raise when there is no such function.
    """
    path = name if is_import_path(name) else builtin.get(name)
    if path is None:
        registered = {point.name: point.value for point in entry_points(group=group)}
        path = registered.get(name)
    if path is None:
        kind = group.rpartition(".")[2].rstrip("s")
        raise error(unknown(kind, name, known_names(builtin, group)))
    return _imported(path, error)


def module_source(function: Callable[..., Any]) -> dict[str, str]:
    """File name and text of the module that defines `function`; empty when it has no file."""
    module = inspect.getmodule(function)
    if module is None or module.__file__ is None:
        return {}
    return {f"{module.__name__}.py": inspect.getsource(module)}


def _imported(path: str, error: type[TunerError]) -> Callable[..., Any]:
    module_name, _, attribute = path.partition(":")
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as missing:
        raise error(
            f"{path}: cannot import {missing.name!r}; put its folder beside the study file "
            "or install its package"
        ) from missing
    function = getattr(module, attribute, None)
    if not callable(function):
        defined = [name for name, _ in inspect.getmembers(module, inspect.isfunction)]
        raise error(f"{path}: {unknown(f'function of {module_name}', attribute, defined)}")
    return function  # type: ignore[no-any-return]
