"""A support vector machine on the blocks of the race of `studies/paper-claims.yaml`.

    python -m benchmarks.svm [--blocks 5]

Trains scikit-learn's SVC on the same training rows as the networks of each block, and scores it on
the same validation rows, so the two can be compared in pairs. Writes
`results/paper-svm.json`, block by block; `python -m benchmarks.report` makes the table.
"""

import argparse
import json
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from sklearn.svm import SVC

from benchmarks.harness import RESULTS, console
from benchmarks.process import ROOT
from tuner.datasets.split import stratified_split
from tuner.datasets.store import prepare, read_arrays
from tuner.home import Home
from tuner.references import make_importable
from tuner.search.points import confirmation_seed, split_seed
from tuner.spec.study_spec import Race, StudySpec
from tuner.spec.text.reader import read_study

STUDY = ROOT / "studies/paper-claims.yaml"
RESULT = RESULTS / "paper-svm.json"
_C, _PARTS = 5.0, 2
"""The penalty, and how many threads predict. The kernel is scikit-learn's default: RBF, scaled."""


def main() -> None:
    """Trains and scores a machine for each block, and writes the result after each."""
    arguments = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    arguments.add_argument("--blocks", type=int, default=5)
    spec = read_study(STUDY, ())
    make_importable([STUDY.parent])
    info = prepare(spec.dataset, Home.from_environment().datasets)
    images, labels = read_arrays(info.train)
    pixels = np.asarray(images, np.float64).reshape(len(images), -1) / 255
    blocks = []
    for seed in block_seeds(spec, arguments.parse_args().blocks):
        rows = stratified_split(labels, spec.validation, seed)
        accuracy = score(pixels, np.asarray(labels), *rows)
        blocks.append({"split_seed": seed, "val_accuracy": accuracy})
        console.print(blocks[-1])
        content = {"C": _C, "kernel": "rbf", "dataset": info.digest, "blocks": blocks}
        RESULT.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def block_seeds(spec: StudySpec, blocks: int) -> list[int]:
    """The seeds that choose the validation rows of the first blocks of the study's race."""
    race = Race(study=spec.name)
    changes = {"seed": confirmation_seed(spec), "trials": 1, "race": race}
    confirmation = spec.model_copy(update=changes)
    return [split_seed(confirmation, block) for block in range(blocks)]


def score(pixels: np.ndarray, labels: np.ndarray, train: np.ndarray, held_out: np.ndarray) -> float:
    """Trains on some rows, and returns the accuracy on others."""
    machine = SVC(C=_C, cache_size=1000).fit(pixels[train], labels[train])
    with ThreadPoolExecutor(_PARTS) as threads:
        parts = list(threads.map(machine.predict, np.array_split(pixels[held_out], _PARTS)))
    return float((np.concatenate(parts) == labels[held_out]).mean())


if __name__ == "__main__":
    main()
