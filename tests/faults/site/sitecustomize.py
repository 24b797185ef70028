"""Runs at the start of every Python process under test, see `tests.faults.softmax`.

`FAULT_DIES_AT=module:Class.method:before` kills the process where it first gets there.
"""

import functools
import importlib.abc
import importlib.util
import os
import signal
import sys
from collections.abc import Callable, Sequence
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Any

_ENGINE = "tuner.training.engines.tensorflow"
_DIES_AT = os.environ.get("FAULT_DIES_AT", "")


class _Finder(importlib.abc.MetaPathFinder):
    def find_spec(
        self, name: str, _path: Sequence[str] | None, _target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if name == _ENGINE:
            stand_in = Path(__file__).parents[1] / "softmax.py"
            return importlib.util.spec_from_file_location(name, stand_in)
        if _DIES_AT and name == _DIES_AT.partition(":")[0]:
            sys.meta_path.remove(self)
            spec = importlib.util.find_spec(name)
            sys.meta_path.insert(0, self)
            assert spec is not None
            assert isinstance(spec.loader, importlib.abc.Loader)
            spec.loader = _Fatal(spec.loader)
            return spec
        return None


class _Fatal(importlib.abc.Loader):
    def __init__(self, loader: importlib.abc.Loader) -> None:
        self._loader = loader

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return self._loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        self._loader.exec_module(module)
        _, path, when = _DIES_AT.split(":")
        *owners, name = path.split(".")
        owner = functools.reduce(getattr, owners, module)
        setattr(owner, name, _fatal(getattr(owner, name), when))


def _fatal(function: Callable[..., Any], when: str) -> Callable[..., Any]:
    @functools.wraps(function)
    def fatal(*arguments: Any, **named: Any) -> None:
        if when == "after":
            function(*arguments, **named)
        os.kill(os.getpid(), signal.SIGKILL)

    return fatal


sys.meta_path.insert(0, _Finder())
