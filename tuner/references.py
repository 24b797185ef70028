"""Finds the functions that a study names: registered ones and `package.module:function`.

Owns the one rule by which a name becomes a callable. A plain name is looked up among the
shipped functions, then among the entry points that installed packages register; a name
with a colon is imported. Importing a user's module runs the user's code, so only trainer
and data-preparing processes resolve such names, never the driver.
"""

import importlib
import inspect
import os
import sys
import sysconfig
from collections.abc import Callable, Iterable, Mapping
from importlib.machinery import PathFinder
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

from tuner.errors import TunerError, unknown

_STANDARD_LIBRARY = [
    f"{sysconfig.get_path('stdlib')}{folder}" for folder in ("", f"{os.sep}lib-dynload")
]
"""The entries of `sys.path` that Python's own modules come from."""


def is_import_path(name: str) -> bool:
    """Whether `name` has the form `package.module:function`."""
    return ":" in name


def make_importable(folders: Iterable[Path]) -> None:
    """Puts folders right after Python's own modules where modules are searched for.

    A user's `random.py` then is none of what libraries mean by `random`. It cannot be imported
    at all, which `resolve` says; installed packages come after the folders.
    """
    ours = map(str, folders)
    python_own = [entry for entry in sys.path if entry in _STANDARD_LIBRARY]
    sys.path[:] = dict.fromkeys((*python_own, *ours, *sys.path))


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
    return _imported(_import_path(name, builtin, group, error), error)


def users_module(
    name: str, builtin: Mapping[str, str], group: str, error: type[TunerError]
) -> frozenset[str]:
    """The module that `name` stands for, which is not imported; none for a shipped function."""
    if name in builtin:
        return frozenset()
    return frozenset({_import_path(name, builtin, group, error).partition(":")[0]})


def _import_path(name: str, builtin: Mapping[str, str], group: str, error: type[TunerError]) -> str:
    path = name if is_import_path(name) else builtin.get(name)
    if path is None:
        registered = {point.name: point.value for point in entry_points(group=group)}
        path = registered.get(name)
    if path is None:
        kind = group.rpartition(".")[2].rstrip("s")
        raise error(unknown(kind, name, known_names(builtin, group)))
    return path


def _imported(path: str, error: type[TunerError]) -> Callable[..., Any]:
    module_name, _, attribute = path.partition(":")
    if file := _hidden(module_name):
        raise error(f"{path}: {_renaming(file)}")
    try:
        module = importlib.import_module(module_name)
    except ImportError as failed:
        if file := _hidden(failed.name or ""):
            raise error(f"{path}: {failed.msg}: {_renaming(file)}") from failed
        if not isinstance(failed, ModuleNotFoundError):
            raise
        raise error(
            f"{path}: cannot import {failed.name!r}; put its folder beside the study file "
            "or install its package"
        ) from failed
    function = getattr(module, attribute, None)
    if not callable(function):
        defined = [name for name, _ in inspect.getmembers(module, inspect.isfunction)]
        raise error(f"{path}: {unknown(f'function of {module_name}', attribute, defined)}")
    return function  # type: ignore[no-any-return]


def _hidden(module: str) -> Path | None:
    """The file that is never imported under this name, since Python has a module of that name."""
    name = module.partition(".")[0]
    if name not in sys.builtin_module_names and not PathFinder.find_spec(name, _STANDARD_LIBRARY):
        return None
    folders = (Path(entry) for entry in sys.path if entry not in _STANDARD_LIBRARY)
    files = (file for folder in folders for file in (folder / f"{name}.py", folder / name))
    return next((file for file in files if file.exists()), None)


def _renaming(file: Path) -> str:
    return f"{file.stem!r} is a module of Python's own, which comes first; rename {file}"
