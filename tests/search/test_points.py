"""Where a trial's point comes from: baseline, seeds, queue, sampler, grid."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.bench import Bench, ScriptedPool, small_study
from tuner.errors import UnavailableError
from tuner.search import optuna_samplers, points
from tuner.search.points import stated_point
from tuner.spec.search_space import Scalar
from tuner.training.plan import Outcome


def test_repetitions_share_a_point_and_each_point_gets_the_same_seeds(bench: Bench) -> None:
    pool = ScriptedPool(size=4)

    summary = bench.run(small_study(trials=3, seeds=4), pool)

    assert summary.counts["completed"] == 12
    plans = {plan.slot: plan for plan in pool.submitted}
    for point in range(3):
        assert len({str(plans[point * 4 + each].params) for each in range(4)}) == 1
    assert len({str(plans[point * 4].params) for point in range(3)}) == 3
    seeds = [[plans[point * 4 + each].seed for each in range(4)] for point in range(3)]
    assert len(set(seeds[0])) == 4
    assert seeds[0] == seeds[1] == seeds[2]


@pytest.mark.slow_variants
@pytest.mark.parametrize("pruner", ["median", "hyperband", "successive-halving"])
def test_repetitions_of_a_point_are_not_pruned_against_each_other(
    bench: Bench, pruner: str
) -> None:
    spec = small_study(pruner=pruner, trials=1, seeds=12, epochs=9)

    summary = bench.run(
        spec, ScriptedPool(size=2, curve=lambda plan, epoch: epoch - plan.slot / 10)
    )

    assert summary.counts["completed"] == 12


def test_an_empty_space_with_seeds_trains_the_fixed_point(bench: Bench) -> None:
    pool = ScriptedPool()
    spec = small_study(search_space={"learning_rate": 0.002}, baseline=[], trials=1, seeds=3)

    assert bench.run(spec, pool).counts["completed"] == 3
    assert [plan.recipe.learning_rate for plan in pool.submitted] == [0.002] * 3


def test_an_enqueued_point_is_the_next_new_trial(bench: Bench) -> None:
    bench.record(small_study())
    bench.ledger(small_study()).enqueue({"learning_rate": 0.007})
    pool = ScriptedPool(dies=lambda plan: plan.slot == 1 and plan.attempt == 0)

    bench.run(small_study(), pool)

    assert [plan.recipe.learning_rate for plan in pool.submitted[:3]] == [0.001, 0.007, 0.007]
    assert pool.submitted[1].params == pool.submitted[2].params
    assert bench.ledger(small_study()).queued() == 0


@pytest.mark.slow_variants(quick=4)
@pytest.mark.parametrize("sampler", ["tpe", "random", "qmc", "cmaes"])
@pytest.mark.parametrize("pruner", ["median", "hyperband", "successive-halving", "none"])
def test_every_sampler_and_pruner_drives_a_study(bench: Bench, sampler: str, pruner: str) -> None:
    spec = small_study(
        sampler=sampler,
        pruner=pruner,
        search_space={
            "learning_rate": {"type": "float", "low": 1e-4, "high": 1e-2, "log": True},
            "dropout_rate": {"type": "float", "low": 0.0, "high": 0.5, "step": 0.25},
            "batch_size": {"type": "int", "low": 8, "high": 64, "log": True},
            "optimizer": {"type": "choice", "choices": ["adam", "sgd"]},
        },
        baseline=[],
    )

    summary = bench.run(spec, ScriptedPool())

    assert summary.counts["completed"] + summary.counts["pruned"] == 6
    assert all(not spec.point_problems(trial.params) for trial in summary.trials)
    assert len({str(trial.params) for trial in summary.trials}) == 6


@pytest.mark.slow_variants
@pytest.mark.parametrize("sampler", ["tpe", "random", "qmc", "cmaes"])
def test_stepped_values_have_no_binary_fractions(
    bench: Bench, sampler: str, capfd: pytest.CaptureFixture[str]
) -> None:
    pool = ScriptedPool()
    space = {"learning_rate": {"type": "float", "low": 0.05, "high": 0.78, "step": 0.05}}
    baseline = [{"learning_rate": 0.05 + 8 * 0.05}]
    spec = small_study(sampler=sampler, search_space=space, baseline=baseline, trials=20)

    summary = bench.run(spec, pool)

    meant = {float(f"{step * 5 / 100:.2f}") for step in range(1, 16)}
    trained = [plan.recipe.learning_rate for plan in pool.submitted]
    assert trained[0] == 0.45
    assert meant.issuperset(trained)
    assert [trial.params["learning_rate"] for trial in summary.trials] == trained
    assert [row.params["learning_rate"] for row in bench.trials(spec).all()] == trained
    assert capfd.readouterr().err == ""


def test_a_grid_trains_every_point_once_and_the_baseline_first(bench: Bench) -> None:
    space = {
        "learning_rate": {"type": "choice", "choices": [0.001, 0.01]},
        "batch_size": {"type": "int", "low": 16, "high": 32, "step": 8},
    }
    spec = small_study(
        sampler="grid", search_space=space, baseline=[{"learning_rate": 0.01, "batch_size": 24}]
    )

    summary = bench.run(spec, ScriptedPool(size=2))

    points = [
        (trial.params["learning_rate"], trial.params["batch_size"]) for trial in summary.trials
    ]
    assert points[0] == (0.01, 24)
    assert sorted(points) == [(rate, size) for rate in (0.001, 0.01) for size in (16, 24, 32)]


@pytest.mark.slow_variants(quick=2)
@pytest.mark.parametrize(
    "baseline",
    [
        [{"learning_rate": 0.01}],
        [{"learning_rate": 0.01, "batch_size": 16}] * 2,
        [{"learning_rate": 0.01}, {"batch_size": 32}, {"learning_rate": 0.01}],
        [{}],
    ],
)
def test_a_grid_is_trained_completely_with_a_partial_or_repeated_baseline(
    bench: Bench, baseline: list[dict[str, float]]
) -> None:
    space = {
        "learning_rate": {"type": "choice", "choices": [0.001, 0.01]},
        "batch_size": {"type": "choice", "choices": [16, 32]},
    }
    pool = ScriptedPool()

    bench.run(small_study(sampler="grid", search_space=space, baseline=baseline, trials=4), pool)

    points = [(plan.recipe.learning_rate, plan.recipe.batch_size) for plan in pool.submitted]
    assert sorted(points) == [(0.001, 16), (0.001, 32), (0.01, 16), (0.01, 32)]
    assert all(
        dict(zip(space, points[0], strict=True))[name] == baseline[0][name] for name in baseline[0]
    )


_GRID = {
    "sampler": "grid",
    "search_space": {
        "learning_rate": {"type": "float", "low": 0.05, "high": 0.2, "step": 0.05},
        "batch_size": {"type": "choice", "choices": [16, 32]},
    },
    "trials": 8,
}


@pytest.mark.slow_variants
@pytest.mark.parametrize("seeds", [1, 2])
def test_a_grid_that_was_begun_in_another_order_is_trained_completely(
    bench: Bench, seeds: int
) -> None:
    """As earlier versions began it, where the baseline was partial."""
    spec = small_study(**_GRID, baseline=[{"learning_rate": 0.05}], seeds=seeds)
    order = [stated_point(spec, point * seeds, {}) for point in range(8)]
    begun = [order[each] for each in (1, 7, 0, 4)[: 4 // seeds]]
    driver = bench.member(spec, lease_s=2)
    ledger, trials = bench.ledger(spec, driver), bench.trials(spec)
    for point in begun:
        ledger.enqueue(point)
    claims = [ledger.claim(4, lambda _: True, lambda slot: slot % seeds == 0) for _ in range(4)]
    for claim in filter(None, claims):
        trials.open(claim)
        ledger.close(claim.uid, Outcome.INTERRUPTED)
    pool = ScriptedPool()

    bench.run(spec, pool)

    plans = sorted(pool.submitted, key=lambda plan: plan.slot)
    wanted = begun + [point for point in order if point not in begun]
    assert [plan.params for plan in plans] == [point for point in wanted for _ in range(seeds)]


@given(data=st.data())
def test_drivers_unaware_of_each_other_train_no_point_of_a_grid_twice(data: st.DataObject) -> None:
    spec = small_study(**_GRID, baseline=[{"batch_size": 32}])
    grid = [stated_point(spec, slot, {}) for slot in range(8)]
    earlier = data.draw(st.dictionaries(st.integers(0, 7), st.sampled_from(grid)))
    made: dict[int, dict[str, Scalar]] = {}
    for slot in data.draw(st.permutations([slot for slot in range(8) if slot not in earlier])):
        seen = data.draw(st.sets(st.sampled_from(sorted(made)))) if made else ()
        made[slot] = stated_point(spec, slot, earlier | {each: made[each] for each in seen})

    new = list(map(str, made.values()))
    assert len(set(new)) == len(new)
    assert set(map(str, earlier.values())).isdisjoint(new)


@given(trials=st.integers(1, 20), seeds=st.integers(1, 5), seed=st.integers(0, 2**32 - 1))
def test_every_slot_has_one_point_and_its_own_seed(trials: int, seeds: int, seed: int) -> None:
    spec = small_study(trials=trials, seeds=seeds, seed=seed, baseline=[])
    slots = range(spec.slots)

    assert [points.point_of(spec, slot) for slot in slots] == [slot // seeds for slot in slots]
    assert sum(points.leads(spec, slot) for slot in slots) == trials
    assert all(0 <= points.trial_seed(spec, slot) < 2**32 for slot in slots)
    distinct = {points.trial_seed(spec, slot) for slot in slots}
    assert len(distinct) == (spec.slots if seeds == 1 else seeds)
    sampled = {points.sampler_seed(spec, slot) for slot in slots}
    assert len(sampled) == trials


def test_the_gp_sampler_without_pytorch_says_what_to_install() -> None:
    with pytest.raises(UnavailableError, match=r"pip install 'tuner\[gp\]'"):
        optuna_samplers.sampler(small_study(sampler="gp"), seed=0)
