"""Which search wastes least: samplers and pruners replayed against recorded curves.

Measures how many seconds of training `studies/paper-sweep.yaml` needs, under each sampler and
pruner that a study file can name, until its best completed trial has the validation accuracy
that random search without pruning ends with; and what it ends with itself. docs/search.md
says how and shows what was found.

    python -m benchmarks.search              a quarter of an hour on one core, more with gp
    python -m benchmarks.search --report     the same, and renews docs/search.md
    python -m benchmarks.search --short      fewer searches and repeats, as in `make bench`

Every pair is tried on one set of seeds, the best of them meet again on more, the winner is
chosen there, and what is reported comes from other seeds.
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
AGAIN, FRESH = 5_000, 10_000
"""The first seeds on which the shortlist meets, and of the repeats that are reported."""

Studies = dict[Contender, list[ReplayedStudy]]
Scores = dict[Contender, Score]


@dataclass(frozen=True)
class Contest:
    """Replays contenders on the same seeds and the same table."""

    table: Table
    rounds: int

    def studies(
        self,
        field: Iterable[Contender],
        first_seed: int,
        *,
        workers: int = WORKERS,
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

    chosen, best = select(contest, samplers)
    reported = contest.times(REPORTED)
    fresh = reported.studies(finalists(chosen, best, samplers, arguments.short), FRESH)
    target = target_of(fresh[REFERENCE])
    found = report.Findings(
        chosen=chosen,
        target=target,
        scores=scored(fresh),
        alone=scored(reported.studies((REFERENCE, FORMER, chosen), FRESH, workers=1)),
        noise=contest.table.noise(),
    )
    harness.console.print(report.table(found))
    result_of(found, arguments.table.name, reported.rounds).finish(arguments)
    if arguments.report:
        report.renew(found, fresh)


def select(contest: Contest, samplers: Iterable[str]) -> tuple[Contender, list[Contender]]:
    """The best pair on the seeds that choose, and the runners-up.

    Every pruner runs under two samplers, then every sampler with the best pruner of each kind,
    and the quickest of all these once more on many seeds, for the best of many noisy figures
    flatters itself.
    """
    first = scored(contest.studies(contenders(SHORT_SAMPLERS, PRUNERS), 0))
    pruners = [best_of(first, first[REFERENCE], kind).pruner for kind in KINDS]
    second = scored(contest.studies([REFERENCE, *contenders(samplers, pruners)], 0))
    shortlist = quickest(first | second, SHORTLIST)
    again = scored(contest.times(SETTLING).studies([REFERENCE, *shortlist], AGAIN))
    return best_of(again, again[REFERENCE]), shortlist


def quickest(scores: Scores, count: int) -> list[Contender]:
    """The first `count` to the target."""
    return sorted(scores, key=lambda one: scores[one].race.running_time.value)[:count]


def best_of(scores: Scores, reference: Score, kind: str | None = None) -> Contender:
    """The quickest to the target, of one kind of pruner or of all, that ends no worse.

    Worse is a mean true accuracy whose difference from the reference's is below 0 with its
    whole interval; where all are, all stay.
    """
    mine = [one for one in scores if kind in (None, one.kind)]
    sound = [one for one in mine if scores[one].gain(reference).high >= 0]
    return min(sound or mine, key=lambda one: scores[one].race.running_time.value)


def scored(studies: Studies) -> Scores:
    """Everyone against the median of what the reference ended with."""
    target = target_of(studies[REFERENCE])
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
        result.add(str(one), "its true accuracy", "", score.expected.tolist())
    result.compare(str(REFERENCE), "whole study")
    result.facts = found.to_json()
    if find_spec("torch") is None:
        result.skipped = dict.fromkeys(SLOW_SAMPLERS, "needs PyTorch: pip install torch")
    return result


if __name__ == "__main__":
    main()
