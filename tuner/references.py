"""Finds the functions that a study names: registered ones and `package.module:function`.

Owns the one rule by which a name becomes a callable. A plain name is looked up among the
shipped functions, then among the entry points that installed packages register; a name
with a colon is imported. Importing a user's module runs the user's code, so only trainer
and data-preparing processes resolve such names, never the driver.

A study file may come from anyone who can write to the database. So a name with a colon stands
for a function of the user's own folders alone: neither its module nor the module that defines
the function may be Python's own, an installed package's or ours, unless `TUNER_ALLOWED_MODULES`
names it where the function runs.
"""

import importlib
import inspect
import os
import re
import sys
import sysconfig
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from importlib.machinery import PathFinder
from importlib.metadata import entry_points
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any

from tuner.errors import TunerError, unknown

_STDLIB = sysconfig.get_path("stdlib")
_STANDARD_LIBRARY = [
    f"{spelling}{folder}"
    for spelling in dict.fromkeys((_STDLIB, os.path.realpath(_STDLIB)))
    for folder in ("", f"{os.sep}lib-dynload")
]
"""The entries of `sys.path` that Python's own modules come from, by links and without."""
_INSTALLED = ("site-packages", "dist-packages")
"""What the folders of installed packages are called, whichever Python they are of."""
_LIBRARY = re.compile(r"/lib(64)?/(python|pypy)\d")
"""In the path of what another Python than ours has for its own."""
_NEVER_OWN = sys.stdlib_module_names | {"tuner", "__main__"}
_ALLOWED = "TUNER_ALLOWED_MODULES"


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
    path = _import_path(name, builtin, group, error)
    return _imported(path, error, registered=path in _registered(builtin, group).values())


def users_module(
    name: str, builtin: Mapping[str, str], group: str, error: type[TunerError]
) -> frozenset[str]:
    """The module that `name` stands for, which is not imported; none for a shipped function."""
    if name in builtin:
        return frozenset()
    return frozenset({_import_path(name, builtin, group, error).partition(":")[0]})


def _import_path(name: str, builtin: Mapping[str, str], group: str, error: type[TunerError]) -> str:
    path = name if is_import_path(name) else _registered(builtin, group).get(name)
    if path is None:
        kind = group.rpartition(".")[2].rstrip("s")
        raise error(unknown(kind, name, known_names(builtin, group)))
    return path


def _registered(builtin: Mapping[str, str], group: str) -> dict[str, str]:
    """Import paths by name; a shipped name is never replaced."""
    return {point.name: point.value for point in entry_points(group=group)} | dict(builtin)


def _imported(path: str, error: type[TunerError], *, registered: bool) -> Callable[..., Any]:
    module_name, _, attribute = path.partition(":")
    if file := _hidden(module_name):
        raise error(f"{path}: {_renaming(file)}")
    if not (registered or _may_run(module_name)):
        raise error(f"{path}: {_stranger(module_name)}")
    module = _module(module_name, path, error)
    function = getattr(module, attribute, None)
    if not callable(function):
        defined = [name for name, _ in inspect.getmembers(module, inspect.isfunction)]
        raise error(f"{path}: {unknown(f'function of {module_name}', attribute, defined)}")
    origin = _defined_in(function)
    if not (registered or _head(origin) == _head(module_name) or _may_run(origin)):
        raise error(f"{path}: is defined in {origin}: {_stranger(origin)}")
    return function  # type: ignore[no-any-return]


def _module(name: str, path: str, error: type[TunerError]) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ImportError as failed:
        if file := _hidden(failed.name or ""):
            raise error(f"{path}: {failed.msg}: {_renaming(file)}") from failed
        if not isinstance(failed, ModuleNotFoundError):
            raise
        raise error(
            f"{path}: cannot import {failed.name!r}; put it beside the study file, into the folder "
            f"that tuner is called in or on PYTHONPATH, or install its package{_of_a_database()}"
        ) from failed


def _of_a_database() -> str:
    """Why a file beside the study file may not count; empty where it does."""
    if not os.environ.get("TUNER_STORAGE_URL"):
        return ""
    return (
        "; of a study that TUNER_STORAGE_URL holds, the study file's folder counts only where "
        "tuner is called in it or above it, or PYTHONPATH names it"
    )


def _may_run(module: str) -> bool:
    """Whether functions of the module may be run because a study names them."""
    allowed = os.environ.get(_ALLOWED, "").replace(",", " ").split()
    if any(module == each or module.startswith(f"{each}.") for each in allowed):
        return True
    head = _head(module)
    if head in _NEVER_OWN:
        return False
    try:
        spec = find_spec(head)
    except ValueError:  # a module that came from no file
        return False
    if spec is None:
        return True  # there is nothing to run
    places = spec.submodule_search_locations or ([str(spec.origin)] if spec.has_location else [])
    return bool(places) and all(_is_own(Path(place)) for place in places)


def _is_own(place: Path) -> bool:
    """Whether the place of a module is the user's: not installed, and no folder of the system's."""
    seen = (place.absolute(), place.resolve())
    never = [Path(folder) for folder in (*_STANDARD_LIBRARY, sysconfig.get_path("scripts"))]
    installed = any(is_installed(path) or any(map(path.is_relative_to, never)) for path in seen)
    return not installed and not (place.is_dir() and place.parent == Path(place.anchor))


def is_installed(path: Path) -> bool:
    """Whether the path lies in the library of some Python, or among the packages that it has."""
    packaged = not set(_INSTALLED).isdisjoint(path.parts)
    return packaged or _LIBRARY.search(path.as_posix()) is not None


def _defined_in(function: Callable[..., Any]) -> str:
    """The module whose code a function is, though another one may have imported it."""
    while isinstance(function, partial):
        function = function.func
    return str(getattr(function, "__module__", None) or type(function).__module__)


def _stranger(module: str) -> str:
    return (
        f"{module!r} is none of the study's own modules; a study names functions of its folders, "
        f"of entry points, and of modules that {_ALLOWED} names on the machine that runs them"
    )


def _hidden(module: str) -> Path | None:
    """The file that is never imported under this name, since Python has a module of that name."""
    name = _head(module)
    if name not in sys.builtin_module_names and not PathFinder.find_spec(name, _STANDARD_LIBRARY):
        return None
    folders = (Path(entry) for entry in sys.path if entry not in _STANDARD_LIBRARY)
    files = (file for folder in folders for file in (folder / f"{name}.py", folder / name))
    return next((file for file in files if file.exists()), None)


def _renaming(file: Path) -> str:
    return f"{file.stem!r} is a module of Python's own, which comes first; rename {file}"


def _head(module: str) -> str:
    return module.partition(".")[0]
