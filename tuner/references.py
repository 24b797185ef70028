"""Resolves the function names in a study file: registered names and `package.module:function`.

A plain name is that of a function shipped with tuner, or of an entry point of an installed
package. A name with a colon is imported. Importing a user's module runs the user's code, so only
trainer and data-preparing processes resolve names, never the driver.

A study file may come from anyone who can write to the database. So a name with a colon must be a
function from the user's own folders: neither its module nor the module that defines the function
may belong to Python, to an installed package or to tuner. `TUNER_ALLOWED_MODULES` allows
exceptions on the machine that runs the function.
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
"""The entries of `sys.path` for Python's own modules, with and without resolved links."""
_INSTALLED = ("site-packages", "dist-packages")
"""The names of folders with installed packages, of any Python installation."""
_LIBRARY = re.compile(r"/lib(64)?/(python|pypy)\d")
"""Matches the library folder of any Python installation."""
_NEVER_OWN = sys.stdlib_module_names | {"tuner", "__main__"}
_ALLOWED = "TUNER_ALLOWED_MODULES"


def is_import_path(name: str) -> bool:
    """Whether `name` has the form `package.module:function`."""
    return ":" in name


def make_importable(folders: Iterable[Path]) -> None:
    """Inserts folders into `sys.path`, after Python's own modules and before installed packages.

    So a user's `random.py` does not replace Python's `random`. It cannot be imported, and
    `resolve` reports that.
    """
    ours = map(str, folders)
    python_own = [entry for entry in sys.path if entry in _STANDARD_LIBRARY]
    sys.path[:] = dict.fromkeys((*python_own, *ours, *sys.path))


def known_names(builtin: Mapping[str, str], group: str) -> list[str]:
    """Returns the names shipped with tuner and those of the entry point `group`, sorted."""
    return sorted({*builtin, *(point.name for point in entry_points(group=group))})


def resolve(
    name: str, builtin: Mapping[str, str], group: str, error: type[TunerError]
) -> Callable[..., Any]:
    """Returns the function with this name. Imports its module.

    Args:
        name: a key of `builtin`, an entry point of `group`, or `package.module:function`.
        builtin: the names shipped with tuner, and their import paths.
        group: the entry point group, such as `tuner.models`.
        error: the exception class for all problems.

    Raises:
        TunerError: there is no such function, or it may not run; an instance of `error`.
    """
    path = _import_path(name, builtin, group, error)
    return _imported(path, error, registered=path in _registered(builtin, group).values())


def users_module(
    name: str, builtin: Mapping[str, str], group: str, error: type[TunerError]
) -> frozenset[str]:
    """Returns the module of a function without importing it; empty for one shipped with tuner.

    Raises:
        TunerError: the name is unknown; an instance of `error`.
    """
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
    """The import paths by name. An entry point cannot replace a name shipped with tuner."""
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
            f"{path}: cannot import {failed.name!r}; put it beside the study file, into the "
            f"current folder or on PYTHONPATH, or install its package{_trusted_folders()}"
        ) from failed


def _trusted_folders() -> str:
    """Returns why a file beside the study file may be ignored; empty if it is not."""
    if not os.environ.get("TUNER_STORAGE_URL"):
        return ""
    return (
        "; with TUNER_STORAGE_URL, the study file's folder is used only if it is inside the "
        "current folder or a folder on PYTHONPATH"
    )


def _may_run(module: str) -> bool:
    """Whether a study may name functions of this module."""
    allowed = os.environ.get(_ALLOWED, "").replace(",", " ").split()
    if any(module == each or module.startswith(f"{each}.") for each in allowed):
        return True
    head = _head(module)
    if head in _NEVER_OWN:
        return False
    try:
        spec = find_spec(head)
    except ValueError:  # a module without a file
        return False
    if spec is None:
        return True  # there is no such module
    places = spec.submodule_search_locations or ([str(spec.origin)] if spec.has_location else [])
    return bool(places) and all(_is_own(Path(place)) for place in places)


def _is_own(place: Path) -> bool:
    """Whether a module's place belongs to the user: neither installed nor a system folder."""
    seen = (place.absolute(), place.resolve())
    never = [Path(folder) for folder in (*_STANDARD_LIBRARY, sysconfig.get_path("scripts"))]
    installed = any(is_installed(path) or any(map(path.is_relative_to, never)) for path in seen)
    return not installed and not (place.is_dir() and place.parent == Path(place.anchor))


def is_installed(path: Path) -> bool:
    """Whether the path is in the library or the packages of any Python installation."""
    packaged = not set(_INSTALLED).isdisjoint(path.parts)
    return packaged or _LIBRARY.search(path.as_posix()) is not None


def _defined_in(function: Callable[..., Any]) -> str:
    """The module that defines a function, which may differ from the one that names it."""
    while isinstance(function, partial):
        function = function.func
    return str(getattr(function, "__module__", None) or type(function).__module__)


def _stranger(module: str) -> str:
    return (
        f"{module!r} is not one of the study's own modules; a study may name functions of its "
        f"folders, entry points, and modules in {_ALLOWED} on the machine that runs them"
    )


def _hidden(module: str) -> Path | None:
    """A user's file that is never imported, since Python has a module with its name."""
    name = _head(module)
    if name not in sys.builtin_module_names and not PathFinder.find_spec(name, _STANDARD_LIBRARY):
        return None
    folders = (Path(entry) for entry in sys.path if entry not in _STANDARD_LIBRARY)
    files = (file for folder in folders for file in (folder / f"{name}.py", folder / name))
    return next((file for file in files if file.exists()), None)


def _renaming(file: Path) -> str:
    return f"{file.stem!r} is one of Python's own modules, which has priority; rename {file}"


def _head(module: str) -> str:
    return module.partition(".")[0]
