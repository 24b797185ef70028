"""Runs at the start of every Python process under test, see `tests.faults.softmax`.

`FAULT_ENGINE=tensorflow` trains with TensorFlow in place of NumPy.
`FAULT_DIES_AT` is a point of `tests.faults.kill_points`, and the signal that the process gets when
it first gets there. `FAULT_CLOCK_S=3600` sets its clock an hour ahead.
`FAULT_CLOSED=/a/file` refuses test rows to every process but the one that prepares data, and notes
in the file which program wanted them.
"""

import errno
import functools
import importlib.abc
import importlib.util
import os
import signal
import sys
import time
from collections.abc import Callable, Sequence
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Any

_ENGINE = "tuner.training.engines.tensorflow"
_DIES_AT = os.environ.get("FAULT_DIES_AT", "")
_IN_NUMPY = {"numpy": True, "tensorflow": False}[os.environ.get("FAULT_ENGINE", "numpy")]


class _Finder(importlib.abc.MetaPathFinder):
    def find_spec(
        self, name: str, _path: Sequence[str] | None, _target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if name == _ENGINE and _IN_NUMPY:
            stand_in = Path(__file__).parents[1] / "softmax.py"
            return importlib.util.spec_from_file_location(name, stand_in)
        if name == _ENGINE:
            return self._changed(name, _beset)
        if _DIES_AT and name == _DIES_AT.partition(":")[0]:
            return self._changed(name, _make_fatal)
        return None

    def _changed(self, name: str, change: Callable[[ModuleType], None]) -> ModuleSpec:
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(name)
        sys.meta_path.insert(0, self)
        assert spec is not None
        assert isinstance(spec.loader, importlib.abc.Loader)
        spec.loader = _Changed(spec.loader, change)
        return spec


class _Changed(importlib.abc.Loader):
    def __init__(self, loader: importlib.abc.Loader, change: Callable[[ModuleType], None]) -> None:
        self._loader = loader
        self._change = change

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return self._loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        self._loader.exec_module(module)
        self._change(module)


def _beset(engine: ModuleType) -> None:
    from tests.faults import misfortunes

    misfortunes.beset(engine)


def _make_fatal(module: ModuleType) -> None:
    _, path, when, by = _DIES_AT.split(":")
    *owners, name = path.split(".")
    owner = functools.reduce(getattr, owners, module)
    setattr(owner, name, _fatal(getattr(owner, name), when, signal.Signals[by]))


def _fatal(function: Callable[..., Any], when: str, number: signal.Signals) -> Callable[..., Any]:
    moments = [when]

    def reach(moment: str) -> None:
        if moment in moments:
            moments.clear()
            os.kill(os.getpid(), number)

    @functools.wraps(function)
    def fatal(*arguments: Any, **named: Any) -> Any:
        reach("before")
        answer = function(*arguments, **named)
        reach("after")
        return answer

    return fatal


def _set_clock(ahead_s: float) -> None:
    now, now_ns = time.time, time.time_ns
    time.time = lambda: now() + ahead_s
    time.time_ns = lambda: now_ns() + round(ahead_s * 1e9)


def _close_test_set(note: Path) -> None:
    program = next((each for each in sys.orig_argv if each.startswith("tuner")), "another")
    datasets = f"{os.environ['TUNER_HOME']}/datasets/"

    def close(event: str, arguments: tuple[Any, ...]) -> None:
        path = str(arguments[0]) if event == "open" else ""
        if path.startswith(datasets) and Path(path).parent.name == "test":
            with note.open("a") as file:
                file.write(f"{program}\n")
            if program != "tuner.datasets.prepare":
                raise PermissionError(errno.EACCES, "the test set is closed", path)

    sys.addaudithook(close)


if "FAULT_CLOSED" in os.environ:
    _close_test_set(Path(os.environ["FAULT_CLOSED"]))
_set_clock(float(os.environ.get("FAULT_CLOCK_S", "0")))
sys.meta_path.insert(0, _Finder())
