"""Statistics against published examples, SciPy, and the rules that they promise to keep."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from tuner.statistics import (
    PairedShares,
    expected_largest,
    holm,
    look_level,
    paired_difference,
    paired_shares,
    pooled_std,
    repeatability_limit,
    wilson_interval,
)

SLEEP_FIRST = (0.7, -1.6, -0.2, -1.2, -0.1, 3.4, 3.7, 0.8, 0.0, 2.0)
SLEEP_SECOND = (1.9, 0.8, 1.1, 0.1, -0.1, 4.4, 5.5, 1.6, 4.6, 3.4)
"""Student's own example: hours of sleep gained by ten patients with each of two drugs."""

AIRWAYS = PairedShares(both=1, first=1, second=7, neither=12)
"""L. Bentur et al., Pediatric Pulmonology 44 (2009), 845-850: children whose airways were
hyper-responsive before (first) and after (second) a transplantation of stem cells."""

values = st.floats(-1, 1, allow_nan=False).map(lambda value: round(value, 4))


def test_students_example_of_two_drugs_for_sleep() -> None:
    """As in R's help page of `t.test`: t = -4.0621, p = 0.002833, -2.4598858 to -0.7001142."""
    found = paired_difference(SLEEP_FIRST, SLEEP_SECOND)
    assert found.mean == pytest.approx(-1.58)
    assert found.p_value == pytest.approx(0.002833, abs=1e-6)
    interval = found.interval(0.05)
    assert (interval.low, interval.high) == pytest.approx((-2.4598858, -0.7001142), abs=1e-7)


@given(st.lists(st.tuples(values, values), min_size=2, max_size=12))
def test_a_paired_difference_is_scipys_paired_t_test(pairs: list[tuple[float, float]]) -> None:
    first, second = np.array(pairs).T
    found = paired_difference(first.tolist(), second.tolist())
    if np.ptp(first - second) < 1e-9:
        return  # nothing but rounding
    assert found.p_value == pytest.approx(stats.ttest_rel(first, second).pvalue)
    for level in (0.01, 0.05, 0.3):
        interval = found.interval(level)
        assert (interval.low > 0 or interval.high < 0) == (found.p_value < level)


def test_equal_differences_decide_nothing_without_a_resolution() -> None:
    """Three differences of five images out of a thousand may agree by chance."""
    better, worse = [0.905, 0.905, 0.905], [0.9, 0.9, 0.9]
    assert paired_difference(better, worse).p_value == 1
    assert paired_difference([0.905, 0.906, 0.907], [0.9, 0.901, 0.902]).p_value == 1
    assert 0.01 < paired_difference(better, worse, resolution=0.001).p_value < 0.05
    assert paired_difference(worse, worse, resolution=0.001).p_value == 1


def test_what_is_not_a_number_is_not_rejected() -> None:
    assert holm({"one": math.nan, "two": 0.001}, 0.05)[1] == {"two"}
    assert holm({"one": math.nan}, 0.05)[1] == frozenset()


def test_the_levels_of_all_looks_add_up_to_the_level() -> None:
    spent = sum(look_level(look, 0.05) for look in range(1, 100_000))
    assert spent == pytest.approx(0.05, abs=1e-6)
    assert spent < 0.05


def test_holm_rejects_what_the_published_procedure_rejects() -> None:
    """The example of Wikipedia's page on the procedure: 0.005 and 0.01 of four are rejected."""
    levels, rejected = holm({"one": 0.01, "two": 0.04, "three": 0.03, "four": 0.005}, 0.05)
    assert rejected == {"one", "four"}
    assert levels == pytest.approx(
        {"four": 0.05 / 4, "one": 0.05 / 3, "three": 0.05 / 2, "two": 0.05 / 2}
    )


@given(st.dictionaries(st.integers(), st.floats(0, 1), max_size=8), st.floats(0.001, 0.5))
def test_holm_rejects_all_that_bonferroni_rejects_and_nothing_above_the_level(
    p_values: dict[int, float], level: float
) -> None:
    levels, rejected = holm(p_values, level)
    for key, p_value in p_values.items():
        assert (key in rejected) == (p_value <= levels[key])
        assert level / len(p_values) <= levels[key] <= level
        if p_value <= level / len(p_values):
            assert key in rejected


def test_wilsons_interval_of_a_published_example() -> None:
    """R. G. Newcombe, Statistics in Medicine 17 (1998), 857-872, table I: 81 of 263."""
    interval = wilson_interval(81 / 263, 263)
    assert (interval.low, interval.high) == pytest.approx((0.2553, 0.3662), abs=5e-5)


@given(st.integers(0, 5000), st.integers(1, 5000))
def test_wilsons_interval_contains_the_share_and_lies_within_bounds(right: int, count: int) -> None:
    share = min(right, count) / count
    interval = wilson_interval(share, count)
    assert 0 <= interval.low <= share + 1e-12
    assert share - 1e-12 <= interval.high <= 1
    assert interval.low < interval.high


def test_the_repeatability_limit_is_isos_2_8_where_the_deviation_is_known() -> None:
    assert repeatability_limit(1.0, 10**6) == pytest.approx(2.8, abs=0.03)
    assert repeatability_limit(0.01, 4) == pytest.approx(0.01 * 2**0.5 * stats.t.ppf(0.975, 4))


def test_two_results_differ_by_more_than_the_limit_in_a_twentieth_of_all_cases() -> None:
    random, cases = np.random.default_rng(0), 4000
    samples = random.normal(random.normal(size=(cases, 3, 1)), 0.5, (cases, 3, 3))
    exceeded = 0
    for points in samples:
        pooled = pooled_std(points)
        assert pooled is not None
        apart = abs(np.subtract(*random.normal(0, 0.5, 2)))
        exceeded += bool(apart > repeatability_limit(*pooled))
    assert stats.binomtest(exceeded, cases, 0.05).pvalue > 0.01


def test_the_pooled_deviation_is_that_within_the_samples() -> None:
    pooled = pooled_std([[1, 2, 3], [12, 14, 16], [99]])
    assert pooled is not None
    assert pooled == pytest.approx((2.5**0.5, 4))
    assert pooled_std([[1], [2]]) is None


@pytest.mark.parametrize(
    ("count", "mean"),
    [(1, 0.0), (2, 0.56419), (5, 1.16296), (10, 1.53875), (100, 2.50759), (1000, 3.24144)],
)
def test_the_largest_of_normal_values_has_the_published_mean(count: int, mean: float) -> None:
    """L. H. C. Tippett, Biometrika 17 (1925), 364-387; the first two are exact: 0, 1 / sqrt(pi)."""
    assert expected_largest(count) == pytest.approx(mean, abs=1e-5)


def swapped(counts: PairedShares) -> PairedShares:
    return counts.model_copy(update={"first": counts.second, "second": counts.first})


@st.composite
def paired_counts(draw: st.DrawFn) -> PairedShares:
    both, first, second, neither = (draw(st.integers(0, 400)) for _ in range(4))
    return PairedShares(both=both + 1, first=first, second=second, neither=neither)


def test_newcombes_interval_and_mcnemars_test_of_a_published_example() -> None:
    """M. W. Fagerland, S. Lydersen, P. Laake, Statistics in Medicine 33 (2014), 2850-2875."""
    interval = AIRWAYS.interval()
    assert AIRWAYS.difference == pytest.approx(-0.286, abs=5e-4)
    assert (interval.low, interval.high) == pytest.approx((-0.507, -0.026), abs=5e-4)
    assert AIRWAYS.p_value == pytest.approx(0.0703, abs=5e-5)


@given(paired_counts(), st.floats(0.001, 0.5))
def test_newcombes_interval_contains_the_difference_and_lies_within_bounds(
    counts: PairedShares, level: float
) -> None:
    interval = counts.interval(level)
    assert -1 <= interval.low <= counts.difference <= interval.high <= 1
    wider = counts.interval(level / 2)
    assert wider.low <= interval.low
    assert interval.high <= wider.high


@given(paired_counts())
def test_to_swap_two_classifiers_is_to_swap_the_signs(counts: PairedShares) -> None:
    interval, other = counts.interval(), swapped(counts).interval()
    assert (other.low, other.high) == pytest.approx((-interval.high, -interval.low))
    assert swapped(counts).difference == -counts.difference
    assert swapped(counts).p_value == counts.p_value
    assert swapped(counts).detectable() == counts.detectable()


@given(paired_counts())
def test_mcnemars_exact_test_is_scipys_binomial_test(counts: PairedShares) -> None:
    assert 0 < counts.p_value <= 1
    if not counts.discordant:
        assert counts.p_value == counts.p_better == 1
        return
    two_sided = stats.binomtest(counts.first, counts.discordant).pvalue
    one_sided = stats.binomtest(counts.first, counts.discordant, alternative="greater").pvalue
    assert counts.p_value == pytest.approx(two_sided)
    assert counts.p_better == pytest.approx(one_sided)


@given(st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1))
def test_rows_are_counted_by_who_is_right(rows: list[tuple[bool, bool]]) -> None:
    counts = paired_shares(*np.array(rows).T)
    assert counts.both == rows.count((True, True))
    assert counts.first == rows.count((True, False))
    assert counts.second == rows.count((False, True))
    assert counts.neither == rows.count((False, False))
    assert counts.rows == len(rows)


@pytest.mark.parametrize(("rows", "discordant"), [(10_000, 80), (10_000, 0), (1000, 50), (360, 2)])
def test_a_detectable_difference_is_found_in_four_of_five_cases(rows: int, discordant: int) -> None:
    counts = PairedShares(both=rows - discordant, first=discordant, second=0, neither=0)
    gain = counts.detectable()
    differing = max(discordant / rows, gain)
    shares = [1 - differing, (differing + gain) / 2, (differing - gain) / 2, 0]
    drawn = np.random.default_rng(0).multinomial(rows, np.clip(shares, 0, 1), 300).tolist()
    tried = (PairedShares(both=a, first=b, second=c, neither=d) for a, b, c, d in drawn)
    assert 0.7 < sum(each.p_value <= 0.05 for each in tried) / 300 < 0.9


def test_a_gain_of_a_tenth_of_a_point_is_below_what_ten_thousand_rows_can_tell() -> None:
    counts = PairedShares(both=9_900, first=40, second=40, neither=20)
    assert 0.002 < counts.detectable() < 0.003
    assert PairedShares(both=1, first=1, second=0, neither=0).detectable() == 1


@pytest.mark.parametrize(("share", "margin"), [(0.006, 0.002), (0.05, 0.01)])
def test_equal_classifiers_pass_in_four_of_five_cases_on_as_many_rows_as_are_named(
    share: float, margin: float
) -> None:
    differing = round(1000 * share)
    rows = PairedShares(both=1000 - differing, first=differing, second=0, neither=0).rows_for(
        margin
    )
    shares = [0.99 - share, share / 2, share / 2, 0.01]
    drawn = np.random.default_rng(1).multinomial(rows, shares, 300).tolist()
    tried = (PairedShares(both=a, first=b, second=c, neither=d) for a, b, c, d in drawn)
    assert 0.7 < sum(each.interval(0.1).low >= -margin for each in tried) / 300 < 0.9
