"""Runs the short form of every benchmark, one after the other; `make bench`.

    python -m benchmarks.run [--full] [NAME ...]

Short forms take about 15 minutes in all on two cores and write to `benchmarks/results/short`,
which is not committed. `--full` takes the full forms, some hours, and replaces the committed
results; do that on a machine that does nothing else. A benchmark that fails is named at the
end, and the exit status is then 1.
"""

import argparse
import subprocess
import sys

from benchmarks.harness import console
from benchmarks.process import ROOT, python

_SCRIPTS = {
    "engine": "one training against model.fit",
    "study": "a whole study against what people use today",
    "overhead": "what a trial costs the driver besides its training",
    "tracking": "epochs with tracking and without",
    "shipping": "a trained study on its way to MLflow",
    "footprint": "memory and disk of a study",
    "listing": "what looks at every study of a full home",
    "cli": "commands that do not train",
    "packing": "how many trainers on how many cores",
    "latency": "one image through the promoted model's path",
    "accuracy": "whether quicker ways to train learn the same",
    "search": "samplers and pruners replayed on recorded curves",
    "promotion": "how often luck is taken for a gain",
}


def main() -> int:
    """Runs what is named, or all; returns the exit status."""
    arguments = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    arguments.add_argument("names", nargs="*", metavar="NAME", help=", ".join(_SCRIPTS))
    arguments.add_argument("--full", action="store_true", help="the forms that are committed")
    asked = arguments.parse_args()
    if unknown := set(asked.names) - set(_SCRIPTS):
        arguments.error(f"unknown: {', '.join(sorted(unknown))}; there are {', '.join(_SCRIPTS)}")
    failed = [name for name in asked.names or _SCRIPTS if not _run(name, asked.full)]
    for name in failed:
        console.print(f"failed: {name}")
    return 1 if failed else 0


def _run(name: str, full: bool) -> bool:
    console.rule(f"{name}: {_SCRIPTS[name]}")
    command = python(name) if full else python(name, "--short")
    return subprocess.run(command, cwd=ROOT).returncode == 0


if __name__ == "__main__":
    sys.exit(main())
