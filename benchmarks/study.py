"""The whole study: `tuner run-study` against the sweeps that people write today.

    python -m benchmarks.study [--short] [--trials 4] [--epochs 2]

Same network, rows, batch size, search space of learning rate and dropout rate, first point,
trials and epochs; no trial is stopped early. A run counts from the start of its process to its
exit: imports, data, search, training, tracking. It begins in an empty folder, beside the cache
of published data. The rows of the rivals are split before their clock starts, ours within it.
The best validation accuracy stands beside the time.

The rivals are scripts in `benchmarks/rivals`, on the same backend.
Keras Tuner, Ray and the TensorBoard that autolog needs come with the extra `bench`; what is
not installed is named as skipped.
"""

import argparse
import os
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import get_args

from benchmarks import workload
from benchmarks.harness import Result, interleaved, parser
from benchmarks.sweeps import RIVALS, Sample, Sweeps, not_installed
from tuner.spec.recipe import Backend

_OURS = "tuner run-study"
_LEFT_OUT = ("TUNER_STORAGE_URL", "MLFLOW_TRACKING_URI", "MLFLOW_EXPERIMENT_NAME")
"""Variables that would lead the command to another database or server."""


def main() -> None:
    """Measures every way that is installed, interleaved, and writes `study-<cpu|gpu>.json`."""
    asked = _arguments()
    for name in _LEFT_OUT:
        os.environ.pop(name, None)
    skipped = not_installed()
    with tempfile.TemporaryDirectory() as folder:
        info = workload.prepared(asked.dataset, Path(folder))
        found = interleaved(_subjects(Sweeps(asked, info), asked.precisions, skipped), asked.rounds)
    kept = ("trials", "epochs", "validation", "dataset", "backend")
    settings = {key: getattr(asked, key) for key in kept} | {"batch_size": workload.BATCH}
    result = Result(asked.name, settings, skipped=skipped)
    for subject, samples in found.items():
        result.add(subject, "total", "s", [sample.seconds for sample in samples])
    for subject, samples in found.items():
        result.add(subject, "best val_accuracy", "", [sample.accuracy for sample in samples])
    rivals = [subject for subject in found if subject in RIVALS]
    ours = [subject for subject in found if subject not in RIVALS]
    result.compare(rivals[0], "total")
    for rival in rivals[1:]:
        result.compare(rival, "total", ours)
    result.finish(asked)


def _subjects(
    sweeps: Sweeps, precisions: list[str], skipped: dict[str, str]
) -> dict[str, Callable[[], Sample]]:
    subjects: dict[str, Callable[[], Sample]] = {
        name: partial(sweeps.rival, name) for name in RIVALS if name not in skipped
    }
    for precision in precisions:
        name = f"{_OURS}, {precision}"
        subjects[name] = partial(sweeps.ours, name, precision)
    return subjects


def _arguments() -> argparse.Namespace:
    arguments = parser(__doc__, rounds=3)
    arguments.add_argument("--name", default="study", help="of the result file")
    arguments.add_argument("--trials", type=int, default=4)
    arguments.add_argument("--epochs", type=int, default=2)
    arguments.add_argument("--backend", default="tensorflow", choices=get_args(Backend))
    arguments.add_argument("--precisions", nargs="+", default=["auto", "float32"])
    workload.add_arguments(arguments)
    asked = arguments.parse_args()
    if asked.short:
        asked.rounds, asked.trials, asked.epochs = 1, 2, 1
    return asked


if __name__ == "__main__":
    main()
