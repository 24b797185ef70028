"""What every benchmark shares: arguments, interleaved rounds, and the result file.

A benchmark reads its arguments with `parser`, runs its subjects with `interleaved`, adds their
samples to a `Result`, and ends with `result.finish(arguments)`, which prints the table and
writes `results/<name>-<cpu|gpu>.json`, or `results/short/...`. Run one from the repository's root:

    python -m benchmarks.engine --short
"""

import argparse
import json
import math
import re
import sys
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

from rich.console import Console

from benchmarks import machine
from benchmarks.samples import Ratio, Series, paired_ratio
from benchmarks.table import series_table

RESULTS = Path(__file__).parent / "results"
SHORT_RESULTS = RESULTS / "short"
"""Not committed: the short forms show that a script works, and little more."""
console = Console(width=None if sys.stdout.isatty() else 120)

Outcome = TypeVar("Outcome")


def parser(description: str | None, rounds: int) -> argparse.ArgumentParser:
    """Arguments that every benchmark takes; `description` is the script's docstring."""
    arguments = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    arguments.add_argument("--short", action="store_true", help="the form of `make bench`")
    arguments.add_argument("--rounds", type=int, default=rounds, help="interleaved rounds")
    arguments.add_argument("--results", type=Path, help="where the result goes")
    arguments.set_defaults(load_before=machine.load(), revision=machine.revision())
    return arguments


def add_time_limit(arguments: argparse.ArgumentParser) -> None:
    """The argument of a benchmark that can end after any round."""
    arguments.add_argument(
        "--within", type=float, default=math.inf, metavar="S", help="seconds for all rounds"
    )


def interleaved(
    subjects: Mapping[str, Callable[[], Outcome]], rounds: int, within_s: float = math.inf
) -> dict[str, list[Outcome]]:
    """Runs every subject once a round, A B C A B C, and keeps what each run returns.

    After the first round, none begins that would not end within `within_s` of the start, going by
    the mean of those before it.
    """
    outcomes: dict[str, list[Outcome]] = {name: [] for name in subjects}
    began = time.perf_counter()
    for number in range(1, rounds + 1):
        if number > 1 and (time.perf_counter() - began) * number / (number - 1) > within_s:
            break
        for name, run in subjects.items():
            started = time.perf_counter()
            outcomes[name].append(run())
            took = time.perf_counter() - started
            console.print(f"  round {number}/{rounds}: {name} ({took:.1f} s)", highlight=False)
    return outcomes


@dataclass
class Result:
    """What one benchmark found, and on what."""

    name: str
    """Of the file: `engine`."""
    settings: dict[str, Any]
    """What was run: trials, epochs, batch size, threads."""
    series: list[Series] = field(default_factory=list)
    ratios: list[Ratio] = field(default_factory=list)
    facts: dict[str, Any] = field(default_factory=dict)
    """Anything else that was found, such as a share of the physical limit."""
    skipped: dict[str, str] = field(default_factory=dict)
    """Subjects that could not run here, and why."""
    hardware: dict[str, Any] = field(default_factory=machine.hardware)

    @property
    def device(self) -> str:
        """`gpu` where the backend found one to compute on."""
        return machine.computes_on(self.settings.get("backend", "tensorflow"))

    def add(self, subject: str, measure: str, unit: str, samples: Sequence[float]) -> None:
        """Keeps the samples of one measure on one subject."""
        self.series.append(Series(subject, measure, unit, tuple(samples)))

    def add_each(
        self, found: Mapping[str, Sequence[Mapping[str, float]]], units: Mapping[str, str]
    ) -> None:
        """Keeps the samples by subject, measure after measure; `units` names both.

        A subject may lack a measure.
        """
        for measure, unit in units.items():
            for subject, samples in found.items():
                if measure in samples[0]:
                    self.add(subject, measure, unit, [sample[measure] for sample in samples])

    def compare(self, base: str, measure: str, subjects: Collection[str] | None = None) -> None:
        """Adds the paired ratios of subjects, of all if none are named, against `base`.

        The ratio is base over subject: above 1 the subject is faster where the measure is a
        time. The table shows a subject's first.
        """
        measured = {one.subject: one for one in self.series if one.measure == measure}
        reference = measured.pop(base)
        compared = [one for name, one in measured.items() if subjects is None or name in subjects]
        self.ratios += [paired_ratio(reference, one) for one in compared]

    def finish(self, arguments: argparse.Namespace) -> Path:
        """Prints the table, writes the result, and says where."""
        title = f"{self.name} on {self.hardware['cpu']}, {self.device}"
        console.print(series_table(title, self.series, self.ratios))
        for subject, reason in self.skipped.items():
            console.print(f"skipped {subject}: {reason}", highlight=False)
        return self.write(arguments)

    def write(self, arguments: argparse.Namespace) -> Path:
        """Writes the result and says where; a short form's is not among the committed ones."""
        folder: Path = arguments.results or (SHORT_RESULTS if arguments.short else RESULTS)
        folder.mkdir(parents=True, exist_ok=True)
        if arguments.revision != machine.revision():
            console.print("the code has changed since this began; the result names what it was")
        path = folder / f"{self.name}-{self.device}.json"
        path.write_text(as_text(self.to_json(arguments)), encoding="utf-8")
        console.print(f"wrote {path}", highlight=False, soft_wrap=True)
        return path

    def to_json(self, arguments: argparse.Namespace) -> dict[str, Any]:
        """The result as it is written."""
        return {
            "name": self.name,
            "measured_at": datetime.now(UTC).isoformat(timespec="seconds"),
            "revision": arguments.revision,
            "short": arguments.short,
            "rounds": len(self.series[0].samples) if self.series else arguments.rounds,
            "settings": self.settings,
            "series": [one.to_json() for one in self.series],
            "ratios": [one.to_json() for one in self.ratios],
            "facts": self.facts,
            "skipped": self.skipped,
            "hardware": {
                **self.hardware,
                "device": self.device,
                "load_before": arguments.load_before,
                "load_after": machine.load(),
            },
            "versions": machine.versions(),
        }


def as_text(result: dict[str, Any]) -> str:
    """JSON that can be read by people: indented, with a line for all samples of a series."""
    text = json.dumps(result, indent=1)
    return re.sub(r"\[[^\[\]{}]*\]", lambda samples: " ".join(samples[0].split()), text) + "\n"
