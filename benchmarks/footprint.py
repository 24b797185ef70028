"""Memory and disk of a study: what its processes hold at most, and what it leaves on disk.

    python -m benchmarks.footprint [--short] [--rounds 3]

`tuner run-study` on four subjects: two trials of one epoch, two trainers, float32, processors.
`mnist` trains the paper's network. The others train a dense network on 6,000 random images. From
one to the next either the images grow, or the network.

    trainer, driver, ...     the most memory that a process of this kind has held (VmHWM)
    all together             the most that all processes held at one moment, shared pages counted
                             once (PSS)
    images                   the bytes of all pixels, training and test
    prepared data            the folder `datasets` of the state folder
    files a trial            spool, log and MLflow's files of a trial, without model files
    databases                `tuner.db` and `mlflow.db`
    model file               one kept model
"""

import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path

import numpy as np
import psutil

from benchmarks.harness import Result, interleaved, parser
from benchmarks.process import ROOT

_KINDS = {
    "trainer": "trainer",
    "driver": "run-study",
    "shipper": "shipper",
    "figures": "multiprocessing.spawn",
    "data preparation": "prepar",
}
"""What a process is, by what its command has in it."""
_LEFT_OUT = ("TUNER_STORAGE_URL", "MLFLOW_TRACKING_URI", "MLFLOW_EXPERIMENT_NAME")
_EVERY_S = 0.2
_MB = 1e6
_ROWS = 6_000
_RANDOM = {
    "random 28x28x1": ((28, 28, 1), 8),
    "random 112x112x3": ((112, 112, 3), 8),
    "random 112x112x3, 512 units": ((112, 112, 3), 512),
}
"""The shape of an image, and the width of the network's layers."""
_TRIALS = 2
_STUDY = f"""
name: footprint
dataset: {{dataset}}
model: {{model}}
search_space:
  learning_rate: {{{{type: float, low: 1e-4, high: 1e-3}}}}
  dense_units: {{units}}
trials: {_TRIALS}
epochs: 1
validation: 500
workers: 2
precision: float32
keep_models: 1
"""

Footprint = dict[str, float]
"""One study's, in MB, by measure."""


def main() -> None:
    """Measures every data set, interleaved, and writes `footprint-cpu.json`."""
    asked = parser(__doc__, rounds=3).parse_args()
    with tempfile.TemporaryDirectory() as folder:
        found = interleaved(dict(_subjects(Path(folder))), 1 if asked.short else asked.rounds)
    settings = {"trials": _TRIALS, "epochs": 1, "workers": 2, "precision": "float32"}
    result = Result("footprint", settings)
    measures = (measure for samples in found.values() for measure in samples[0])
    result.add_each(found, dict.fromkeys(measures, "MB"))
    result.finish(asked)


def _subjects(folder: Path) -> Iterator[tuple[str, Callable[[], Footprint]]]:
    yield "mnist", partial(_measured, "mnist", "paper-cnn", 128)
    for name, (shape, units) in _RANDOM.items():
        path = folder / f"{shape[0]}.npz"
        _write_random(path, shape)
        yield name, partial(_measured, f"{{name: npz, args: {{path: {path}}}}}", "dense", units)


def _write_random(path: Path, shape: tuple[int, int, int]) -> None:
    images = np.random.default_rng(0).integers(0, 256, (_ROWS, *shape), np.uint8)
    labels = np.arange(_ROWS) % 10
    cut = _ROWS * 5 // 6
    np.savez(
        path, x_train=images[:cut], y_train=labels[:cut], x_test=images[cut:], y_test=labels[cut:]
    )


def _measured(dataset: str, model: str, units: int) -> Footprint:
    """Runs a study in an empty state folder and watches its processes."""
    with tempfile.TemporaryDirectory() as folder:
        home, file = Path(folder, "home"), Path(folder, "study.yaml")
        file.write_text(_STUDY.format(dataset=dataset, model=model, units=units))
        peaks = _watched(home, file)
        models = {path.stat().st_size for path in (home / "mlartifacts").rglob("*.keras")}
        files = [*_files(home / "studies"), *_files(home / "mlartifacts")]
        return peaks | {
            "images": _total(home.glob("datasets/*/*/images.npy")),
            "prepared data": _total(_files(home / "datasets")),
            "files a trial": _total(each for each in files if each.suffix != ".keras") / _TRIALS,
            "databases": _total(home.glob("*.db")),
            "model file": max(models) / _MB,
        }


def _watched(home: Path, file: Path) -> Footprint:
    """The most memory that each kind of process held, and all together.

    Raises:
        RuntimeError: the study failed, with what it said last; or a kind of process was not seen.
    """
    environment = {name: os.environ[name] for name in os.environ if name not in _LEFT_OUT}
    peaks = dict.fromkeys([*_KINDS, "all together"], 0.0)
    with tempfile.TemporaryFile() as log:
        study = psutil.Popen(
            [sys.executable, "-m", "tuner", "run-study", str(file)],
            cwd=ROOT,
            env=environment | {"TUNER_HOME": str(home)},
            stdout=log,
            stderr=log,
        )
        while study.poll() is None:
            with suppress(psutil.NoSuchProcess):
                _look([study, *study.children(recursive=True)], peaks)
            time.sleep(_EVERY_S)
        if study.returncode:
            log.seek(0)
            raise RuntimeError(log.read()[-2000:].decode())
    if unseen := [kind for kind, peak in peaks.items() if not peak]:
        raise RuntimeError(f"no process was seen of: {', '.join(unseen)}")
    return peaks


def _look(processes: Iterable[psutil.Process], peaks: Footprint) -> None:
    together = 0.0
    for process in processes:
        with suppress(psutil.NoSuchProcess, psutil.AccessDenied, OSError, StopIteration):
            command = " ".join(process.cmdline())
            kind = next(kind for kind, has in _KINDS.items() if has in command)
            peaks[kind] = max(peaks[kind], _peak(process.pid))
            together += process.memory_full_info().pss / _MB
    peaks["all together"] = max(peaks["all together"], together)


def _peak(pid: int) -> float:
    """The most memory that a process has held so far, as Linux counts it."""
    status = Path(f"/proc/{pid}/status").read_text()
    line = next(each for each in status.splitlines() if each.startswith("VmHWM"))
    return int(line.split()[1]) * 1024 / _MB


def _files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


def _total(files: Iterable[Path]) -> float:
    return sum(path.stat().st_size for path in files) / _MB


if __name__ == "__main__":
    main()
