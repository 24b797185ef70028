"""A study that is a race: which trainings it does, in which order, and when it ends."""

from collections.abc import Callable

import numpy as np
import pytest

from tests.bench import Bench, ScriptedPool, small_study
from tuner.search.points import point_of, replicate_of
from tuner.search.race import FIRST_BLOCKS
from tuner.search.race_trials import race_state, values_of
from tuner.spec.study_spec import Confirmation, Race, StudySpec
from tuner.storage.studies import Catalog
from tuner.storage.tables import SLOT
from tuner.study.driver_events import ProgressEvent, TrialDone
from tuner.training.plan import TrialPlan

RATES = (0.002, 0.004, 0.008, 0.001)
POINTS = [{"learning_rate": rate, "batch_size": 32} for rate in RATES]
BASELINE = 3


@pytest.fixture
def race() -> StudySpec:
    """Four points, of which the second one is the best by far."""
    rules = Confirmation(max_seeds=8)
    return small_study(
        trials=len(POINTS),
        baseline=POINTS,
        sampler="random",
        validation=10_000,
        race=Race(study="small", against=BASELINE, rules=rules),
    )


def reached(plan: TrialPlan, epoch: int) -> float:
    gain = 0.05 if plan.params["learning_rate"] == RATES[1] else 0.0
    noise = np.random.default_rng((plan.seed, int(float(plan.params["learning_rate"]) * 1e4)))
    return 0.9 + gain + float(noise.normal(0, 0.002)) - 0.2 * (epoch == 2)


def pool() -> ScriptedPool:
    return ScriptedPool(size=2, curve=reached)


def trained(bench: Bench, race: StudySpec) -> list[list[int]]:
    """The points of each block that ended, in the order of the blocks."""
    blocks: dict[int, list[int]] = {}
    for slot in sorted(row.user_attrs[SLOT] for row in bench.trials(race).all()):
        blocks.setdefault(replicate_of(race, slot), []).append(point_of(race, slot))
    return list(blocks.values())


@pytest.mark.slow_variants
def test_a_race_trains_block_by_block_until_it_is_over(each_bench: Bench, race: StudySpec) -> None:
    summary = each_bench.run(race, pool())
    rows = each_bench.trials(race).all()
    standing = race_state(race, values_of(race, rows))
    assert standing.over
    assert standing.chosen(dict.fromkeys(range(4), 1.0)) == 1
    blocks = trained(each_bench, race)
    assert blocks[:FIRST_BLOCKS] == [[0, 1, 2, 3]] * FIRST_BLOCKS
    assert len(blocks) == standing.blocks < race.replicates
    assert summary.done
    assert summary.slots == len(rows) == sum(map(len, blocks))
    assert Catalog(each_bench.database).get(race.name).spec == race


def test_points_that_are_dropped_train_no_more(bench: Bench, race: StudySpec) -> None:
    close = race.model_copy(update={"race": Race(study="small", rules=Confirmation(max_seeds=8))})
    bench.run(close, pool())
    rows = bench.trials(close).all()
    assert race_state(close, values_of(close, rows)).remaining == (1,)
    assert all(1 in block for block in trained(bench, close))
    assert len(rows) == len(RATES) * FIRST_BLOCKS


def test_a_block_shares_seed_and_validation_rows_and_no_other_block_has_them(
    bench: Bench, race: StudySpec
) -> None:
    scripted = pool()
    bench.run(race, scripted)
    seeds: dict[int, set[tuple[int, int]]] = {}
    for plan in scripted.submitted:
        block = seeds.setdefault(replicate_of(race, plan.slot), set())
        block.add((plan.seed, plan.split_seed))
    assert all(len(block) == 1 for block in seeds.values())
    assert len(set.union(*seeds.values())) == len(seeds)
    assert {plan.counts for plan in scripted.submitted} == {"last"}


@pytest.mark.slow
def test_a_race_that_was_stopped_resumes_and_ends_as_if_it_had_not(
    bench: Bench, race: StudySpec
) -> None:
    """Stopped after each trial, so also at the end of a block, where no slot is planned yet."""
    runs = 0
    while not bench.run(race, pool(), *stop_after_one()).done:
        runs += 1
        assert runs < 40
    whole = race.model_copy(update={"name": "whole"})
    bench.run(whole, pool())
    assert trained(bench, race) == trained(bench, whole)
    values = [values_of(each, bench.trials(each).all()) for each in (race, whole)]
    assert values[0] == values[1]


def stop_after_one() -> tuple[Callable[[], bool], Callable[[ProgressEvent], None]]:
    done: list[ProgressEvent] = []

    def note(event: ProgressEvent) -> None:
        if isinstance(event, TrialDone):
            done.append(event)

    return (lambda: bool(done)), note


def test_a_race_whose_trainings_fail_ends(bench: Bench, race: StudySpec) -> None:
    failing = ScriptedPool(size=2, curve=reached, fails=lambda plan: point_of(race, plan.slot) == 0)
    summary = bench.run(race, failing)
    assert summary.done
    standing = race_state(race, values_of(race, bench.trials(race).all()))
    assert standing.over
    assert standing.chosen(dict.fromkeys(range(4), 1.0)) == 1
