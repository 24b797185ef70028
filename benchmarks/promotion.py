"""How often luck is taken for a gain: by taking the best training, a confirmation, a promotion.

    python -m benchmarks.promotion              ten minutes on one core
    python -m benchmarks.promotion --report     the same, and renews docs/search.md
    python -m benchmarks.promotion --short      fewer repeats, as in `make bench`
    python -m benchmarks.promotion --contests   the promotions alone, beside the studies of before

A study of thirty points trains each once; one of them is the baseline. None of the others is
better, or a single one is, by a known gain. What a training reaches comes from

- the recorded table (`benchmarks/data/search-table.csv`): how far the validation accuracy of each
  real training is from its point's mean, or
- a normal distribution with the standard deviation that the table has.

Then a point is promoted in two ways. `take the best` takes the point with the best training, and
calls it better than the baseline where its training was. `confirm` races the best points of the
study against the baseline with the rules of a study file, on fresh trainings
(`tuner.search.race`).

A champion and a candidate that is truly better or worse by a known amount answer the same test
images, and the gates against the champion decide (`tuner.promotion.gates`). Two models that are
equally good share half of their wrong answers; a worse one is wrong on further images, by as many
as it is worse.

Every repeat has other draws; shares have Wilson's 95% interval.
"""

import argparse
import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.progress import track

from benchmarks import harness, machine
from benchmarks.promotion_report import (
    DOCUMENT,
    Contest,
    Row,
    Share,
    contest_cells,
    renew,
    row_cells,
)
from benchmarks.replays.curves import read_table
from benchmarks.search import DATA
from tuner.promotion.gates import check
from tuner.promotion.judging.comparison import ChampionComparison
from tuner.search.race import Verdict, judge
from tuner.spec.study_spec import Confirmation, Gates
from tuner.statistics import PairedShares

POINTS = 30
"""The trials of `studies/paper-sweep.yaml`."""
GAINS = (0.0, 0.001, 0.002, 0.003)
_BASELINE, _BETTER = 0, 1
"""The numbers of the baseline, and of the point that is better where one is."""

DIFFERENCES = (-0.005, -0.003, -0.002, -0.001, 0.0, 0.001, 0.002, 0.003)
"""What a candidate's true accuracy is minus the champion's."""
SHARED = 0.5
"""The share of a model's wrong answers that another one of its kind has wrong too."""


@dataclass(frozen=True)
class TestSet:
    """A test set, and the champion that answers it."""

    images: int
    accuracy: float
    """The champion's true accuracy."""

    @property
    def alone(self) -> float:
        """The share of images that a model as good as the champion alone has right."""
        return (1 - self.accuracy) * (1 - SHARED)


TEST_SETS = (TestSet(10_000, 0.9928), TestSet(10_000, 0.95), TestSet(360, 0.95))
"""MNIST with the paper's network, as good as `docs/paper.md` says, a harder one, a small one."""

Noise = NDArray[np.float64]


def main() -> None:
    """Simulates, prints a row each, and writes `results/promotion.json`."""
    asked = _arguments()
    folder: Path = asked.results or (harness.SHORT_RESULTS if asked.short else harness.RESULTS)
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "promotion.json"
    studies = json.loads(file.read_text(encoding="utf-8")) if asked.contests else _studied(asked)
    content = {**studies, "contests": _contested(asked)}
    file.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    if asked.report:
        DOCUMENT.write_text(renew(content), encoding="utf-8")


def _studied(asked: argparse.Namespace) -> dict[str, Any]:
    """The studies and their confirmations, as they are kept."""
    table = read_table(DATA)
    deviations = table.deviations()
    noises: dict[str, Callable[[np.random.Generator, tuple[int, ...]], Noise]] = {
        "recorded": lambda rng, shape: rng.choice(deviations, shape),
        "normal": lambda rng, shape: rng.normal(0, deviations.std(), shape),
    }
    rules = {
        "3 finalists, at most 10 seeds": Confirmation(),
        "3 finalists, at most 5 seeds": Confirmation(max_seeds=5),
    }
    rows = [
        simulated(name, noise, gain, text, each, asked.repeats)
        for name, noise in noises.items()
        for text, each in rules.items()
        for gain in GAINS
    ]
    _print(map(row_cells, rows))
    return {
        "revision": asked.revision,
        "repeats": asked.repeats,
        "points": POINTS,
        "standard_deviation": float(deviations.std()),
        "rows": [asdict(row) for row in rows],
    }


def _contested(asked: argparse.Namespace) -> dict[str, Any]:
    """The champions and their candidates, as they are kept."""
    rows = [
        contest(test_set, difference, asked.repeats)
        for test_set in TEST_SETS
        for difference in DIFFERENCES
    ]
    _print(map(contest_cells, rows))
    return {
        "revision": asked.revision,
        "repeats": asked.repeats,
        "shared": SHARED,
        "rows": [asdict(row) for row in rows],
    }


def _print(rows: Iterable[tuple[str, ...]]) -> None:
    for row in rows:
        harness.console.print(" | ".join(row), highlight=False)


def _arguments() -> argparse.Namespace:
    arguments = harness.parser(__doc__, rounds=1)
    arguments.add_argument("--repeats", type=int, help="studies of each kind")
    arguments.add_argument("--contests", action="store_true", help="simulate promotions alone")
    arguments.add_argument("--report", action="store_true", help="renew docs/search.md")
    asked = arguments.parse_args()
    asked.repeats = asked.repeats or (100 if asked.short else 4000)
    asked.revision = machine.revision()
    return asked


def simulated(
    name: str,
    noise: Callable[[np.random.Generator, tuple[int, ...]], Noise],
    gain: float,
    text: str,
    rules: Confirmation,
    repeats: int,
) -> Row:
    """Plays `repeats` studies and their confirmations.

    Args:
        name: what the noise is called.
        noise: draws what trainings deviate by from their points' means, in a given shape.
        gain: by how much one point is better than the baseline and all others.
        text: what the rules are called.
        rules: those of the confirmation.
        repeats: how many studies.
    """
    means = np.zeros(POINTS)
    means[_BETTER] += gain
    best_called, best_was, confirmed, was, trainings = 0, 0, 0, 0, 0
    for seed in track(range(repeats), description=f"{name}, {gain:g}, {text}"):
        rng = np.random.default_rng((seed, round(gain * 1e6)))
        search = (means + noise(rng, (POINTS,))).tolist()
        ranked = sorted(range(POINTS), key=lambda point: -search[point])
        best_called += search[ranked[0]] > search[_BASELINE]
        best_was += ranked[0] == _BETTER
        finalists = [point for point in ranked if point != _BASELINE][: rules.finalists]
        points = [*finalists, _BASELINE]
        found = list(_race(points, means, noise, rng, rules))
        better, chosen, cost = found[-1]
        confirmed += better
        was += better and chosen == _BETTER
        trainings += cost
    return Row(
        noise=name,
        gain=gain,
        rules=text,
        best_called_better=Share(best_called, repeats),
        best_was_better=Share(best_was, repeats),
        confirmed=Share(confirmed, repeats),
        confirmed_was_better=Share(was, repeats),
        trainings=trainings / repeats,
    )


def _race(
    points: list[int],
    means: NDArray[np.float64],
    noise: Callable[[np.random.Generator, tuple[int, ...]], Noise],
    rng: np.random.Generator,
    rules: Confirmation,
) -> Iterator[tuple[bool, int, int]]:
    """Yields after each block: whether one is better, which is chosen, trainings so far."""
    blocks: list[dict[int, float]] = []
    standing, cost = judge(points, _BASELINE, blocks, rules), 0
    while not standing.over:
        drawn = means[points] + noise(rng, (len(points),))
        block = dict(zip(points, drawn.tolist(), strict=True))
        blocks.append({point: block[point] for point in standing.remaining})
        cost += len(blocks[-1])
        standing = judge(points, _BASELINE, blocks, rules)
        better = any(each.verdict is Verdict.BETTER for each in standing.findings.values())
        yield better, standing.chosen(dict.fromkeys(points, 1.0)), cost


def contest(test_set: TestSet, difference: float, repeats: int) -> Contest:
    """Has `repeats` candidates answer test images beside their champions.

    Args:
        test_set: the images.
        difference: the candidates' true accuracy minus the champions'.
        repeats: how many candidates.
    """
    won, lost = (test_set.alone + max(0.0, sign * difference) for sign in (1, -1))
    neither = 1 - test_set.accuracy - won
    shares = 1 - won - lost - neither, won, lost, neither
    rng = np.random.default_rng((test_set.images, round(1e6 * (1 + difference))))
    drawn = rng.multinomial(test_set.images, shares, repeats)
    replaced = shown_better = 0
    for counts in drawn.tolist():
        margin, better = _judged(*counts)
        replaced += margin
        shown_better += margin and better
    return Contest(
        images=test_set.images,
        accuracy=test_set.accuracy,
        difference=difference,
        replaced=Share(replaced, repeats),
        shown_better=Share(shown_better, repeats),
    )


@lru_cache(maxsize=100_000)
def _judged(both: int, won: int, lost: int, neither: int) -> tuple[bool, ...]:
    """Whether each of the two gates against the champion lets a candidate pass."""
    rows = PairedShares(both=both, first=won, second=lost, neither=neither)
    found = ChampionComparison(
        version=1, study="champion", trial=0, rows=rows, recalls=(), disagreements=()
    )
    return tuple(gate.passed for gate in check(found.metrics, Gates(better_than_champion=True)))


if __name__ == "__main__":
    main()
