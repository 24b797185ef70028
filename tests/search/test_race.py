"""The race of points: what is dropped, found and chosen, and how often luck is taken for more."""

import math
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tuner.search.race import Block, Contest, RaceState, Verdict, judge, more_blocks
from tuner.spec.study_spec import FEWEST_SEEDS, Confirmation

BASELINE = 3
POINTS = (0, 1, 2, BASELINE)
RULES = Confirmation(margin=0.001, level=0.05, max_seeds=10)
NOISE = 0.001
"""The standard deviation of one training around its point's mean, as on MNIST (docs/search.md)."""

values = st.one_of(st.floats(0, 1).map(lambda value: round(value, 4)), st.just(math.nan))
blocks = st.lists(st.fixed_dictionaries(dict.fromkeys(POINTS, values)), max_size=12)


def race(
    gains: Sequence[float], seed: int, noise: float = NOISE, rules: Confirmation = RULES
) -> RaceState:
    """A whole race of points that are better than the last one, the baseline, by `gains`."""
    drawn = np.random.default_rng(seed).normal(gains, noise, (rules.max_seeds, len(gains)))
    rows = [dict(enumerate(row)) for row in drawn.tolist()]
    return judge(range(len(gains)), len(gains) - 1, rows, rules)


def share(gains: Sequence[float], *, of: int, races: int) -> float:
    """How often a point is said to be better than the baseline, by its number."""
    found = (race(gains, seed).findings.get(of) for seed in range(races))
    return sum(one is not None and one.verdict is Verdict.BETTER for one in found) / races


@given(blocks)
def test_a_race_goes_on_from_any_block_as_if_it_had_never_ended(rows: list[Block]) -> None:
    before = judge(POINTS, BASELINE, [], RULES)
    for number in range(1, len(rows) + 1):
        now = judge(POINTS, BASELINE, rows[:number], RULES)
        assert set(now.remaining) <= set(before.remaining)
        assert BASELINE in now.remaining
        assert now.blocks == before.blocks + (not before.over)
        for point, finding in before.findings.items():
            if finding.verdict is not Verdict.UNDECIDED:
                assert now.findings[point] == finding
        before = now


@given(blocks)
def test_entries_of_points_that_were_dropped_do_not_count(rows: list[Block]) -> None:
    judged = judge(POINTS, BASELINE, rows, RULES)
    without: list[Block] = []
    for row in rows[: judged.blocks]:
        remaining = judge(POINTS, BASELINE, without, RULES).remaining
        without.append({point: row[point] for point in remaining})
    assert judge(POINTS, BASELINE, without, RULES) == judged


def test_a_block_counts_once_every_point_in_the_race_has_ended() -> None:
    row = dict.fromkeys(POINTS, 0.9)
    assert judge(POINTS, BASELINE, [row, {0: 0.9, 1: 0.9}], RULES).blocks == 1
    assert judge(POINTS, BASELINE, [row, row], RULES).blocks == 2


def test_few_trainings_are_not_compared() -> None:
    rows = [{0: 0.99 + noise, BASELINE: 0.5} for noise in (0.0, 0.001, 0.002, 0.001, 0.0)]
    assert len(rows) == FEWEST_SEEDS
    assert not judge((0, BASELINE), BASELINE, rows[:-1], RULES).findings
    assert judge((0, BASELINE), BASELINE, rows, RULES).findings[0].verdict is Verdict.BETTER


def test_a_point_that_is_better_by_far_wins_the_race_early() -> None:
    found = race([0.0, 0.01, 0.0, 0.0], seed=1)
    assert found.over
    assert found.blocks < RULES.max_seeds
    assert found.findings[1].verdict is Verdict.BETTER
    assert found.findings[1].interval.low > 0
    assert found.chosen(dict.fromkeys(POINTS, 1.0)) == 1


def test_a_baseline_that_is_better_by_far_drops_all_others() -> None:
    found = race([0.0, 0.0, 0.0, 0.02], seed=1)
    assert found.over
    assert found.remaining == (BASELINE,)
    assert found.chosen(dict.fromkeys(POINTS, 1.0)) == BASELINE


def test_without_a_gain_the_baseline_is_chosen() -> None:
    found = race([0.0, 0.0, 0.0, 0.0], seed=0)
    assert found.over
    assert Verdict.BETTER not in {finding.verdict for finding in found.findings.values()}
    assert found.chosen(dict.fromkeys(POINTS, 1.0)) == BASELINE


def test_points_that_hardly_differ_are_equivalent() -> None:
    found = race([0.0, 0.0], seed=0, noise=0.0001)
    assert found.over
    assert found.findings[0].verdict is Verdict.EQUIVALENT
    assert found.findings[0].interval.within(RULES.margin)


def test_of_two_that_are_better_the_cheaper_one_is_chosen_then_the_better_mean() -> None:
    found = race([0.02, 0.02, 0.0], seed=4, rules=Confirmation(max_seeds=5))
    assert set(found.contenders) == {0, 1}
    assert found.chosen({0: 1.0, 1: 5.0, 2: 0.5}) == 0
    assert found.chosen({0: 1.0, 1: 1.0, 2: 0.5}) == found.contenders[0]


def test_a_study_without_a_baseline_ends_with_its_leader() -> None:
    rows = [{0: 0.9 + noise, 1: 0.5 - noise} for noise in (0.0, 0.001, 0.002)]
    found = judge((0, 1), None, rows, RULES)
    assert (found.over, found.remaining, found.findings) == (True, (0,), {})


def test_a_training_that_failed_leaves_out_its_pair_alone() -> None:
    reached = (0.9, math.nan, 0.91, 0.9, 0.9, 0.91)
    rows = [{0: value, BASELINE: 0.5} for value in reached]
    found = judge((0, BASELINE), BASELINE, rows, RULES)
    assert found.findings[0].difference.pairs == 4
    assert found.means[0] == pytest.approx(0.9025, abs=1e-3)


def test_a_point_without_any_value_leaves_the_race() -> None:
    rows = [{0: math.nan, 1: 0.9, BASELINE: 0.5} for _ in range(4)]
    found = judge((0, 1, BASELINE), BASELINE, rows, RULES)
    assert found.remaining == (1, BASELINE)
    assert found.ranked == (1, BASELINE, 0)


def test_a_baseline_without_any_value_ends_the_race_and_is_not_chosen() -> None:
    rows = [{0: 0.8, 1: 0.9, BASELINE: math.nan} for _ in range(4)]
    found = judge((0, 1, BASELINE), BASELINE, rows, RULES)
    assert (found.over, found.blocks) == (True, 3)
    assert found.chosen({0: 1.0, 1: 1.0, BASELINE: 1.0}) == 1


def test_what_is_better_gives_way_only_to_what_is_better_too() -> None:
    """The other one has the better mean in the end, and is too noisy to be called better."""
    steady = (0.51, 0.5101, 0.5099, 0.51, 0.5101, 0.51, 0.5101, 0.5099, 0.51)
    noisy = (0.50, 0.54, 0.48, 0.52, 0.50, 0.60, 0.60, 0.60, 0.60)
    rows = [{0: one, 1: other, BASELINE: 0.5} for one, other in zip(steady, noisy, strict=True)]
    found = judge((0, 1, BASELINE), BASELINE, rows, RULES)
    assert found.blocks == len(rows)
    assert found.remaining[0] == 1
    assert [found.findings[point].verdict for point in (0, 1)] == ["better", "undecided"]
    assert found.contenders == (0,)


def test_differences_of_whole_images_that_agree_by_chance_decide_nothing() -> None:
    rows = [{0: 0.902, BASELINE: 0.9} for _ in range(FEWEST_SEEDS)]
    for resolution in (0.0, 0.002):
        found = judge((0, BASELINE), BASELINE, rows, RULES, resolution)
        assert found.findings[0].verdict is Verdict.UNDECIDED


def test_equal_points_are_seldom_called_better_than_the_baseline() -> None:
    """At most one race in twenty; the best mean is above the baseline's in three of four."""
    races = 400
    better = sum(
        any(one.verdict is Verdict.BETTER for one in race([0.0] * 4, seed).findings.values())
        for seed in range(races)
    )
    assert better / races <= RULES.level


def test_a_gain_of_three_noises_is_found_in_four_of_five_races() -> None:
    assert share([3 * NOISE, 0.0, 0.0, 0.0], of=0, races=200) >= 0.8


def test_the_blocks_that_are_foreseen_decide() -> None:
    rng = np.random.default_rng(6)
    draws = rng.normal([0.0015, 0.0], NOISE, (400, 2)).tolist()
    rows = [dict(enumerate(draw)) for draw in draws]
    finding = judge((0, 1), 1, rows, Confirmation(max_seeds=8)).findings[0]
    assert finding.verdict is Verdict.UNDECIDED
    more = more_blocks(finding, RULES)
    assert more is not None
    assert 10 <= more <= 90
    later = judge((0, 1), 1, rows, Confirmation(max_seeds=8 + 4 * more)).findings[0]
    assert later.verdict is Verdict.BETTER


@pytest.mark.parametrize("baseline", [None, 0])
def test_a_race_whose_trainings_all_fail_still_names_a_point(baseline: int | None) -> None:
    failed = [{0: math.nan, 1: math.nan}] * 3
    state = judge(range(2), baseline, failed, Confirmation())
    assert state.over
    assert state.chosen({0: 1.0, 1: 1.0}) in (0, 1)


def contest(name: str, better: int, than: int, rows: Sequence[Block]) -> Contest:
    return Contest(name, better, than, RULES.margin, 0.0, rows)


def test_the_points_of_a_claim_train_until_it_is_decided() -> None:
    noise = (0.0, 0.001, 0.002, 0.001, 0.0, 0.001, 0.002)
    rows = [
        {0: 0.9 + one, 1: 0.5, 2: 0.9, 3: 0.9 + one * (-1) ** at} for at, one in enumerate(noise)
    ]
    claims = [contest("clear", 0, 1, rows), contest("close", 3, 2, rows)]
    begun = judge((1,), 1, [], RULES, claims=claims)
    assert (begun.over, sorted(begun.training)) == (False, [0, 1, 2, 3])
    later = judge((1,), 1, rows[:5], RULES, claims=claims)
    assert (later.over, sorted(later.training)) == (False, [2, 3])
    assert later.claims["clear"].verdict is Verdict.BETTER
    without = [*rows[:5], *({point: row[point] for point in (2, 3)} for row in rows[5:])]
    claims = [contest("clear", 0, 1, without), contest("close", 3, 2, without)]
    assert judge((1,), 1, without, RULES, claims=claims).blocks == len(rows)


def test_a_claim_has_its_price_for_every_other_comparison() -> None:
    rows = [{0: 0.9 + one, 1: 0.9 - one} for one in (0.0, 0.001, -0.002, 0.001, 0.0)]
    alone, among = (
        judge(
            (0, 1), 1, rows, RULES, claims=[contest(f"{one}", 0, 1, rows) for one in range(count)]
        )
        for count in (0, 3)
    )
    assert among.findings[0].level == pytest.approx(alone.findings[0].level / 4)


def test_of_many_claims_about_equal_points_any_is_decided_wrongly_in_few_races() -> None:
    races, wrong = 400, 0
    for seed in range(races):
        drawn = np.random.default_rng(seed).normal(0, NOISE, (RULES.max_seeds, 8))
        rows = [dict(enumerate(row)) for row in drawn.tolist()]
        claims = [contest(f"{one}", one, one + 1, rows) for one in range(0, 8, 2)]
        found = judge((0,), 0, rows, RULES, claims=claims).claims.values()
        wrong += any(one.verdict in (Verdict.BETTER, Verdict.WORSE) for one in found)
    assert wrong / races <= RULES.level
