"""What a benchmark ran on: processor, memory, GPU, versions, revision."""

import os
import platform
import subprocess
import sys
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any, Literal, cast

import psutil

from benchmarks.process import run_process
from tuner.spec.recipe import Backend
from tuner.training.engines import backends
from tuner.workers.devices import visible_gpus

_FLAGS = ("avx2", "avx512f", "avx512_bf16", "avx512_fp16", "amx_tile", "amx_bf16", "amx_int8")
_PACKAGES = (
    "tuner", "tensorflow", "keras", "jax", "jaxlib", "jax-cuda13-plugin", "torch", "numpy",
    "optuna", "mlflow", "sqlalchemy", "keras-tuner", "ray",
)  # fmt: skip
_ROOT = Path(__file__).parents[1]
_PLATFORM = """
import json, sys
from tuner.training.engines import backends
print(json.dumps({"platform": backends.start(sys.argv[1], threads=1).platform}))
"""


def hardware() -> dict[str, Any]:
    """Processor, cores this process may use, memory and GPUs."""
    info = _cpu_info()
    return {
        "cpu": info.get("model name", platform.processor() or platform.machine()),
        "family_model": f"{info.get('cpu family', '?')}/{info.get('model', '?')}",
        "cores": len(os.sched_getaffinity(0)),
        "memory_gb": round(psutil.virtual_memory().total / 2**30, 1),
        "flags": [flag for flag in _FLAGS if flag in info.get("flags", "").split()],
        "gpus": gpu_names(),
        **_driver(),
        "kernel": platform.release(),
    }


@cache
def computes_on(backend: Backend) -> Literal["cpu", "gpu"]:
    """What a backend computes on here, as it says itself in a process of its own.

    A machine may have a GPU that the installed backend cannot use.
    """
    if not (gpu_names() and backends.installed(backend)):
        return "cpu"
    told = run_process([sys.executable, "-c", _PLATFORM, backend]).answer
    return cast('Literal["cpu", "gpu"]', told["platform"])


def load() -> float:
    """How many processes computed in the last minute, on average: how quiet the machine is."""
    return round(os.getloadavg()[0], 2)


def gpu_names() -> list[str]:
    """The GPUs that this process may use, by their product name; empty without a driver."""
    import pynvml

    if not (visible := visible_gpus(os.environ)):
        return []
    pynvml.nvmlInit()
    try:
        return [_gpu_name(name) for name in visible]
    finally:
        pynvml.nvmlShutdown()


def _driver() -> dict[str, str]:
    """The version of the GPUs' driver, if there are any."""
    import pynvml

    if not visible_gpus(os.environ):
        return {}
    pynvml.nvmlInit()
    try:
        return {"driver": str(pynvml.nvmlSystemGetDriverVersion())}
    finally:
        pynvml.nvmlShutdown()


def versions() -> dict[str, str]:
    """Python and the installed packages that results depend on."""
    found = {"python": platform.python_version()}
    for package in _PACKAGES:
        if (version := installed(package)) is not None:
            found[package] = version
    return found


def installed(package: str) -> str | None:
    """The version of a package, or None."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def revision() -> str:
    """The git revision of the code that was measured, `+` for changes not committed.

    Where git does not know it, what the variable `TUNER_REVISION` says.
    """
    command = ["git", "describe", "--always", "--abbrev=12", "--dirty=+", "--exclude=*"]
    try:
        described = subprocess.run(command, cwd=_ROOT, capture_output=True, text=True).stdout
    except FileNotFoundError:  # no git on this machine
        described = ""
    return described.strip() or os.environ.get("TUNER_REVISION", "unknown")


def _gpu_name(visible: str) -> str:
    import pynvml

    by_index = visible.isdigit()
    handle = (
        pynvml.nvmlDeviceGetHandleByIndex(int(visible))
        if by_index
        else pynvml.nvmlDeviceGetHandleByUUID(visible)
    )
    return str(pynvml.nvmlDeviceGetName(handle))


def _cpu_info() -> dict[str, str]:
    """The first processor's entry of /proc/cpuinfo."""
    first = Path("/proc/cpuinfo").read_text(encoding="utf-8").split("\n\n")[0]
    pairs = (line.partition(":") for line in first.splitlines())
    return {key.strip(): value.strip() for key, _, value in pairs}
