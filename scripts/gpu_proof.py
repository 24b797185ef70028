"""Proves tuner on JAX on this machine's GPU, without a network: `scripts/gpu-proof`.

    scripts/gpu-proof run --wheels FOLDER --results FOLDER [--dry-run]

FOLDER of the wheels is what `gpu_wheels` collected. Each step has a time limit, all together end
within eight minutes, and one that fails does not stop the others:

    contract    the engines' contract suite on JAX
    study       a study on MNIST, in MLflow on SQLite, with pruning, and its promotion
    engine      one training against Keras' `fit` on JAX (`benchmarks.engine`)
    packing     two trainers on one GPU against one (`benchmarks.packing`)

The results are `proof-<gpu|cpu>.json`, the benchmarks' own files and a log a step. What is called
`gpu` was computed on one, by what JAX itself says: where JAX finds none, nothing is run. A dry run
takes the processor and scikit-learn's digits and shows that everything is there.

This module needs nothing but Python; all else runs in processes that see the wheels.
"""

import argparse
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TextIO

ROOT = Path(__file__).parents[1]
WHOLE_S = 480.0
"""How long all of it may take on a GPU."""
PATIENCE_ON_PROCESSORS = 6
"""How many times that a dry run may take."""
_INSTALL_S, _PROBE_S = 60.0, 60.0

_PROBE = """
import json, jax
from benchmarks import machine
device = jax.devices()[0]
print(json.dumps({
    "device": jax.default_backend(), "kind": device.device_kind,
    "hardware": machine.hardware(), "versions": machine.versions(), "revision": machine.revision(),
}))
"""

Command = Sequence[str]


@dataclass(frozen=True)
class Said:
    """What a command printed."""

    out: str
    err: str


@dataclass(frozen=True)
class Step:
    """Some commands, one after the other, that must all end well in the time they have."""

    name: str
    commands: Sequence[Command]
    limit_s: float
    environment: Mapping[str, str] = field(default_factory=dict)
    findings: Callable[[Sequence[Said]], dict[str, Any]] = lambda _said: {}
    """What the commands said; an error fails the step."""


@dataclass(frozen=True)
class Bench:
    """Where everything is, and how much is run."""

    results: Path
    work: Path
    environment: Mapping[str, str]
    device: str
    dry: bool
    began: float
    """When all of it began, by the monotonic clock."""

    @property
    def patience(self) -> int:
        """How many times the limits count: those are for a GPU, and a processor may be slow."""
        return PATIENCE_ON_PROCESSORS if self.dry else 1

    def steps(self) -> Sequence[Sequence[Step]]:
        """Those of an inner sequence run at once: only the last two measure."""
        return (self._contract(), self._study()), (self._engine(),), (self._packing(),)

    def _contract(self) -> Step:
        options = ["-o", "addopts=--import-mode=importlib", "-p", "no:cacheprovider", "-q"]
        options += ["-W", "default", "-n", str(max(1, (os.cpu_count() or 1) // 2))]
        files = ("test_engine.py", "test_random_networks.py", "test_jax.py")
        tests = [f"tests/training/{name}" for name in files]
        if self.dry:
            tests = [f"{tests[-1]}::test_an_epoch_of_a_length_seen_before_is_not_compiled_again"]
            options[-1] = "0"
        exact = {
            "TUNER_TEST_BACKEND": "jax",
            "TUNER_TEST_NETWORKS": "6",
            "JAX_DEFAULT_MATMUL_PRECISION": "highest",
            "XLA_FLAGS": "--xla_gpu_deterministic_ops=true --xla_gpu_autotune_level=0",
        }
        return Step("contract", [python("pytest", *options, *tests)], 170, exact, _tests)

    def _study(self) -> Step:
        file = self.work / "study.yaml"
        file.write_text(json.dumps(study(self.dataset(), self.dry)))  # YAML, too
        commands = [
            python("tuner", "run-study", str(file)),
            python("tuner", "promote", "best", "--json"),
            python("tuner", "show", "gpu-proof", "--json"),
        ]
        return Step("study", commands, 170, findings=partial(_study_findings, self.device))

    def _engine(self) -> Step:
        options = ["--rounds", "5", "--epochs", "4", "--within", "130"]
        return Step("engine", [self._benchmark("engine", options)], 160)

    def _packing(self) -> Step:
        options = ["--trainers", "1", "2", "--rounds", "3", "--epochs", "6", "--within", "100"]
        return Step("packing", [self._benchmark("packing", options)], 120)

    def _benchmark(self, name: str, options: Sequence[str]) -> Command:
        if self.dry:
            options = [*options, "--dataset", str(self._digits()), "--validation", "100"]
            options += ["--precision", "float32"]
            options += ["--rounds", "1", "--epochs", "2"]  # the last one said counts
        results = ["--results", str(self.results)]
        return python(f"benchmarks.{name}", "--backend", "jax", *results, *options)

    def dataset(self) -> Any:
        """As a study file names it."""
        return {"name": "npz", "args": {"path": str(self._digits())}} if self.dry else "mnist"

    def _digits(self) -> Path:
        """scikit-learn's digits, as large as MNIST's."""
        file = self.work / "digits.npz"
        if not file.exists():
            run([sys.executable, "-c", _DIGITS, str(file)], self.environment, _PROBE_S)
        return file

    def result(self, step: Step) -> dict[str, Any]:
        """Runs a step to its end and says what came of it."""
        began = time.monotonic()
        left_s = self.began + WHOLE_S * self.patience - began
        limit_s = min(step.limit_s * self.patience, max(1.0, left_s))
        environment = {**self.environment, **step.environment}
        outcome, found = "passed", {}
        try:
            with (self.results / f"{step.name}.log").open("w") as log:
                said = [
                    run(command, environment, began + limit_s - time.monotonic(), log)
                    for command in step.commands
                ]
            found = step.findings(said)
        except subprocess.TimeoutExpired:
            outcome = f"not ended within {limit_s:.0f} s"
        except (RuntimeError, ValueError, LookupError) as error:
            outcome = f"failed: {error}"
        say(f"{step.name}: {outcome}, {time.monotonic() - began:.0f} s")
        return {
            "step": step.name,
            "outcome": outcome,
            "seconds": round(time.monotonic() - began, 1),
            "limit_s": step.limit_s,
            "commands": [" ".join(map(str, command[1:])) for command in step.commands],
            **found,
        }


_DIGITS = """
import sys
import numpy as np
from sklearn.datasets import load_digits
images, labels = load_digits(return_X_y=True)
pixels = np.kron(images.reshape(-1, 8, 8) / 16 * 255, np.ones((3, 3))).round().astype(np.uint8)
pixels = np.pad(pixels, ((0, 0), (2, 2), (2, 2)))
np.savez(sys.argv[1], x_train=pixels[:600], y_train=labels[:600],
         x_test=pixels[600:800], y_test=labels[600:800])
"""


def study(dataset: Any, dry: bool) -> dict[str, Any]:
    """The study file. Its third point learns too slowly not to be pruned."""
    point = {"learning_rate": 0.001, "dropout_rate": 0.5}
    return {
        "name": "gpu-proof",
        "dataset": dataset,
        "model": "paper-cnn",
        "backend": "jax",
        "search_space": {
            "learning_rate": {"type": "float", "low": 1e-6, "high": 1e-2, "log": True},
            "dropout_rate": {"type": "float", "low": 0.2, "high": 0.7},
            **({"filters": 4} if dry else {}),
        },
        "baseline": [point, {**point, "learning_rate": 0.002}, {**point, "learning_rate": 1e-6}],
        "sampler": {"type": "tpe", "n_startup_trials": 3},
        "pruner": {"type": "median", "n_startup_trials": 2},
        "trials": 3 if dry else 8,
        "epochs": 2 if dry else 5,
        "workers": 1,
        "validation": 100 if dry else 10000,
        "confirmation": "off",  # the time is limited
        "promotion": {
            "model": "digits-gpu-proof",
            "gates": {"test_accuracy": 0.2 if dry else 0.98, "latency_p95_ms": 50},
        },
    }


def _study_findings(device: str, said: Sequence[Said]) -> dict[str, Any]:
    ran, promoted, shown = said[0].err, json.loads(said[1].out), json.loads(said[2].out)
    counts = shown["counts"]
    if counts["failed"] or not counts["pruned"] or not promoted["promoted"]:
        raise ValueError(f"must prune, promote and fail no trial, got {counts}, {promoted}")
    trained_on = set(re.findall(r"^trial \d+ on (\w+):", ran, re.MULTILINE))
    if trained_on != {device}:
        raise ValueError(f"must train on {device} alone, got {trained_on}")
    return {"counts": counts, "best": shown["best"], "promotion": promoted}


def _tests(said: Sequence[Said]) -> dict[str, Any]:
    return {"tests": said[0].out.strip().splitlines()[-1]}


def main() -> int:
    """Installs, looks for the GPU, runs every step, and writes what came of it."""
    began = time.monotonic()
    asked = _arguments()
    results: Path = asked.results.absolute()
    results.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(prefix="gpu-proof-") as folder:
        work = Path(folder)
        environment = _environment(asked.wheels.absolute(), work, asked.dry_run)
        _install(asked.wheels, work / "site", environment)
        machine = json.loads(run([sys.executable, "-c", _PROBE], environment, _PROBE_S).out)
        device = machine["device"]
        say(f"JAX {machine['versions']['jax']} computes on {device}: {machine['kind']}")
        report = {"dry_run": asked.dry_run, **machine, "steps": []}
        if device == "gpu" or asked.dry_run:
            if device == "gpu":
                environment["JAX_PLATFORMS"] = "cuda,cpu"  # no step falls back to the processor
            bench = Bench(results, work, environment, device, asked.dry_run, began)
            report["steps"] = results_of(bench, asked.only)
        report["seconds"] = round(time.monotonic() - began, 1)
        (results / f"proof-{device}.json").write_text(json.dumps(report, indent=1) + "\n")
    if not report["steps"]:
        say("JAX found no GPU here, so that nothing was proven; --dry-run takes the processor")
        return 3
    return int(any(step["outcome"] != "passed" for step in report["steps"]))


def _arguments() -> argparse.Namespace:
    arguments = argparse.ArgumentParser(prog="scripts/gpu-proof run")
    arguments.add_argument("--wheels", type=Path, required=True, metavar="FOLDER")
    arguments.add_argument("--results", type=Path, required=True, metavar="FOLDER")
    arguments.add_argument("--dry-run", action="store_true", help="on the processor, small data")
    arguments.add_argument("--only", nargs="+", default=(), metavar="STEP", help="not all steps")
    return arguments.parse_args()


def results_of(bench: Bench, only: Sequence[str] = ()) -> list[dict[str, Any]]:
    """What came of each step, or of those named."""
    found: list[dict[str, Any]] = []
    for steps in bench.steps():
        together = [step for step in steps if not only or step.name in only]
        with ThreadPoolExecutor(len(steps)) as threads:
            found += threads.map(bench.result, together)
    return found


def _install(wheels: Path, site: Path, environment: Mapping[str, str]) -> None:
    """Without wheels, what is installed here has to do."""
    options = ["--quiet", "--no-index", "--no-deps", "--no-compile", "--no-cache-dir"]
    if files := sorted(map(str, wheels.glob("*.whl"))):
        install = python("pip", "install", *options, "--target", str(site), *files)
        run(install, environment, _INSTALL_S)


def _environment(wheels: Path, work: Path, dry: bool) -> dict[str, str]:
    """The wheels come before what is installed, and this copy of tuner before its wheel."""
    quick = {"JAX_PLATFORMS": "cpu", "JAX_DISABLE_MOST_OPTIMIZATIONS": "1"}
    processor = {**quick, "CUDA_VISIBLE_DEVICES": "-1"} if dry else {}
    revision = wheels / "revision"
    return {
        **os.environ,
        **processor,
        "PYTHONPATH": os.pathsep.join((str(ROOT), str(work / "site"))),
        "TUNER_REVISION": revision.read_text() if revision.exists() else "unknown",
        "PYTHONUNBUFFERED": "1",
        "KERAS_BACKEND": "jax",
        "XLA_PYTHON_CLIENT_PREALLOCATE": "false",
        "XDG_CACHE_HOME": str(wheels / "cache"),
        "TUNER_HOME": str(work / "home"),
        "TUNER_STORAGE_URL": "",
        "MLFLOW_TRACKING_URI": "",
    }


def python(module: str, *arguments: str) -> Command:
    """The command that runs a module."""
    return [sys.executable, "-m", module, *arguments]


def run(
    command: Command, environment: Mapping[str, str], limit_s: float, log: TextIO | None = None
) -> Said:
    """Runs a command to its end; the log keeps what it printed.

    Raises:
        RuntimeError: it ended with another status than 0; with what it said last.
        TimeoutExpired: it did not end; it and all that it started are killed.
    """
    process = subprocess.Popen(
        command,
        cwd=ROOT,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
        start_new_session=True,
    )
    try:
        said = Said(*process.communicate(timeout=max(1.0, limit_s)))
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        _keep(command, Said(*process.communicate()), log)
        raise
    _keep(command, said, log)
    if process.returncode:
        lines = (said.err.strip() or said.out.strip()).splitlines() or ["nothing"]
        raise RuntimeError(f"{command[2]}: exit status {process.returncode}: {lines[-1]}")
    return said


def _keep(command: Command, said: Said, log: TextIO | None) -> None:
    if log is not None:
        log.write(f"$ {' '.join(command[1:])}\n{said.err}{said.out}\n")


def say(text: str) -> None:
    """Tells the person who waits."""
    sys.stderr.write(f"{text}\n")


if __name__ == "__main__":
    sys.exit(main())
