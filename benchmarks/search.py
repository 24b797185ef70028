"""Which search wastes least: samplers and pruners replayed against recorded curves.

Measures how many seconds of training `studies/paper-sweep.yaml` needs, under samplers and
pruners that a study file can name and a quasi-random start, until its best completed trial has
the validation accuracy that random search without pruning ends with; and what it ends with
itself. docs/search.md says how and shows what was found.

    python -m benchmarks.search              half an hour on one core
    python -m benchmarks.search --report     the same, and renews docs/search.md
    python -m benchmarks.search --short      fewer searches and repeats, as in `make bench`

Every pruner is tried with two samplers on one set of seeds, every sampler with the best pruner
of each kind; the best of them meet again on more seeds, and what is reported comes from others.
Many pairs are as quick as one another as far as seeds can tell; among these the one with the
shortest whole study is chosen, and Optuna's own sampler where that does not decide either.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path

import optuna
from rich.progress import track

from benchmarks import harness
from benchmarks.replays import report
from benchmarks.replays.clock import ReplayedStudy, replay
from benchmarks.replays.contenders import (
    FORMER,
    KINDS,
    PRUNERS,
    REFERENCE,
    SAMPLERS,
    SLOW_SAMPLERS,
    Contender,
    contenders,
    sweep,
)
from benchmarks.replays.curves import Table, read_table
from benchmarks.replays.scores import Score, target_of

DATA = Path(__file__).parent / "data" / "search-table.csv"
WORKERS = 2
SHORT_SAMPLERS = ("random", "tpe, start 10")
SHORT_ROUNDS = 10
SHORTLIST, SETTLING = 8, 5
"""The best pairs that meet again, and on how many times as many seeds as they were found on."""
REPORTED = 3
"""How many times as many seeds are reported as the first choice was made on."""
SLOW_ROUNDS = 20
"""Repeats of a sampler that takes seconds an ask."""
AGAIN, FRESH = 5_000, 20_000
"""The first seeds on which the shortlist meets, and of the repeats that are reported."""

Studies = dict[Contender, list[ReplayedStudy]]
Scores = dict[Contender, Score]


@dataclass(frozen=True)
class Contest:
    """Replays contenders on the same seeds and the same table."""

    table: Table
    rounds: int

    def studies(
        self, field: Iterable[Contender], first_seed: int, *, workers: int = WORKERS
    ) -> Studies:
        """Every contender's repeats, one after another."""
        base = sweep(self.table.batches)
        return {
            one: [
                replay(one.study(base, seed), self.table, workers=workers)
                for seed in range(first_seed, first_seed + self._rounds(one))
            ]
            for one in track(list(dict.fromkeys(field)), "replaying", console=harness.console)
        }

    def times(self, factor: int) -> "Contest":
        """The same on so many times as many seeds."""
        return replace(self, rounds=self.rounds * factor)

    def _rounds(self, one: Contender) -> int:
        return min(self.rounds, SLOW_ROUNDS) if one.sampler in SLOW_SAMPLERS else self.rounds


def main() -> None:
    """Runs the contest and writes its result."""
    parser = harness.parser(__doc__, rounds=100)
    parser.add_argument("--table", type=Path, default=DATA, help="the recorded curves")
    parser.add_argument("--report", action="store_true", help="renew docs/search.md, its figure")
    arguments = parser.parse_args()
    if arguments.report and arguments.short:
        parser.error("--report: needs the full form, got --short")
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    rounds = min(arguments.rounds, SHORT_ROUNDS) if arguments.short else arguments.rounds
    contest = Contest(read_table(arguments.table), rounds)
    samplers = SHORT_SAMPLERS if arguments.short else tuple(SAMPLERS)

    references = contest.times(SETTLING).studies([REFERENCE], AGAIN)
    target = target_of(references[REFERENCE])
    chosen, best = select(contest, samplers, target)
    reported = contest.times(REPORTED)
    fresh = reported.studies(finalists(chosen, best, samplers, arguments.short), FRESH)
    found = report.Findings(
        chosen=chosen,
        target=target,
        scores=scored(fresh, target),
        alone=scored(reported.studies((REFERENCE, FORMER, chosen), FRESH, workers=1), target),
        noise=contest.table.noise(),
    )
    harness.console.print(report.table(found))
    result_of(found, arguments.table.name, reported.rounds).finish(arguments)
    if arguments.report:
        report.renew(found, fresh)


def select(
    contest: Contest, samplers: Iterable[str], target: float
) -> tuple[Contender, list[Contender]]:
    """The best pair on the seeds that choose, and the runners-up.

    Every pruner runs under two samplers, then every sampler with the best pruner of each kind,
    and the quickest of all these once more on many seeds, for the best of many noisy figures
    flatters itself.
    """
    first = scored(contest.studies(contenders(SHORT_SAMPLERS, PRUNERS), 0), target)
    pruners = [best_of(first, kind).pruner for kind in KINDS]
    second = scored(contest.studies([REFERENCE, *contenders(samplers, pruners)], 0), target)
    shortlist = quickest(first | second, SHORTLIST)
    again = scored(contest.times(SETTLING).studies([REFERENCE, *shortlist], AGAIN), target)
    return preferred(again), shortlist


def preferred(scores: Scores) -> Contender:
    """Of all that cannot be told from the quickest, the one with the shortest whole study.

    Where that differs by less than a hundredth, the sampler of the former default.
    """
    best = scores[best_of(scores)].race
    equals = [one for one in sound(scores) if best.speed_up(scores[one].race).low <= 1]
    whole = {one: scores[one].median("seconds").value for one in equals}
    shortest = [one for one in equals if whole[one] <= min(whole.values()) * 1.01]
    return min(shortest, key=lambda one: (one.sampler != FORMER.sampler, whole[one]))


def quickest(scores: Scores, count: int) -> list[Contender]:
    """The first `count` to the target among those that end no worse."""
    return sorted(sound(scores), key=lambda one: scores[one].race.running_time.value)[:count]


def best_of(scores: Scores, kind: str | None = None) -> Contender:
    """The quickest to the target, of one kind of pruner or of all, that ends no worse.

    Where all of the kind end worse, the quickest of them.
    """
    mine = {one for one in scores if kind in (None, one.kind)}
    candidates = mine.intersection(sound(scores)) or mine
    return min(candidates, key=lambda one: (scores[one].race.running_time.value, str(one)))


def sound(scores: Scores) -> list[Contender]:
    """Those whose mean expected accuracy is not below the reference's with its whole interval."""
    return [one for one in scores if scores[one].gain(scores[REFERENCE]).high >= 0]


def scored(studies: Studies, target: float) -> Scores:
    """Everyone against the target."""
    return {one: Score(repeats, target) for one, repeats in studies.items()}


def finalists(
    chosen: Contender, best: Sequence[Contender], samplers: Sequence[str], short: bool
) -> list[Contender]:
    """What is reported: all samplers with and without the chosen pruner, and the runners-up."""
    slow = () if short or find_spec("torch") is None else tuple(SLOW_SAMPLERS)
    pairs = contenders((*samplers, *slow), ("none", chosen.pruner))
    return [REFERENCE, FORMER, *pairs, *best]


def result_of(found: report.Findings, table: str, rounds: int) -> harness.Result:
    """The three searches that matter most as series, everything among the facts."""
    result = harness.Result("search", {"table": table, "workers": WORKERS, "repeats": rounds})
    for one in dict.fromkeys((REFERENCE, FORMER, found.chosen)):
        score = found.scores[one]
        result.add(str(one), "whole study", "s", score.seconds.tolist())
        result.add(str(one), "final best", "", score.best.tolist())
        result.add(str(one), "its expected accuracy", "", score.expected.tolist())
    result.compare(str(REFERENCE), "whole study")
    result.facts = found.to_json()
    if find_spec("torch") is None:
        result.skipped = dict.fromkeys(SLOW_SAMPLERS, "needs PyTorch: pip install torch")
    return result


if __name__ == "__main__":
    main()
