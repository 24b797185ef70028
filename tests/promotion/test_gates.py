"""The rules that evidence is judged by."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tuner.inference.latency import Latency
from tuner.promotion.gates import check
from tuner.promotion.judging.comparison import ChampionComparison
from tuner.promotion.judging.evidence import Evidence
from tuner.spec.study_spec import Gates
from tuner.statistics import PairedShares
from tuner.training.plan import ClassScores, Evaluation

shares = st.floats(0, 1)
positive = st.floats(1e-6, 1e6)


def evidence(
    test: float = 0.99, train: float = 0.995, p95_ms: float = 2.0, train_time_s: float = 60.0
) -> Evidence:
    macro = ClassScores(label="macro", precision=test, recall=test, f1=test, support=10_000)
    recalls = {"a": (0.97, 4000), "b": (0.9, 6000), "absent": (0.0, 0)}
    classes = tuple(
        ClassScores(label=label, precision=0.9, recall=recall, f1=0.9, support=support)
        for label, (recall, support) in recalls.items()
    )
    return Evidence(
        test=Evaluation(accuracy=test, loss=0.03, confusion=(), classes=classes, macro=macro),
        test_count=10_000,
        train_accuracy=train,
        latency=Latency(p50_ms=p95_ms, p95_ms=p95_ms, p99_ms=p95_ms, calls=1000),
        train_time_s=train_time_s,
        model_mb=0.94,
        parameters=225_034,
    )


def compared(won: int, lost: int, rows: int = 10_000) -> ChampionComparison:
    counts = PairedShares(both=rows - won - lost - 60, first=won, second=lost, neither=60)
    return ChampionComparison(
        version=1, study="former", trial=2, rows=counts, recalls=(), disagreements=()
    )


@given(test=shares, train=shares, p95_ms=positive, seconds=positive, limit=shares, most=positive)
def test_accuracy_is_a_lower_limit_and_the_others_are_upper_ones(
    test: float, train: float, p95_ms: float, seconds: float, limit: float, most: float
) -> None:
    gates = Gates(test_accuracy=limit, train_test_gap=limit, latency_p95_ms=most, train_time_s=most)
    found = evidence(test, train, p95_ms, seconds)
    accuracy, gap, latency, time = check(found.metrics, gates)
    assert accuracy.passed == (test >= limit)
    assert gap.passed == (found.gap <= limit)
    assert latency.passed == (p95_ms <= most)
    assert time.passed == (seconds <= most)


@given(value=shares, limit=shares)
def test_the_shortfall_leads_from_the_value_to_the_limit(value: float, limit: float) -> None:
    (gate,) = check(evidence(test=value).metrics, Gates(test_accuracy=limit))
    assert gate.shortfall == (0 if gate.passed else pytest.approx(limit - value))
    assert (gate.value, gate.limit) == (value, limit)


def test_only_stated_gates_are_checked_in_the_order_of_the_spec() -> None:
    stated = Gates(train_time_s=600, test_accuracy=0.99)
    assert [gate.name for gate in check(evidence().metrics, stated)] == [
        "test_accuracy",
        "train_time_s",
    ]
    assert check(evidence().metrics, Gates()) == ()


def test_a_gate_waits_for_its_figure() -> None:
    stated = Gates(test_accuracy=0.99, train_time_s=600)
    assert [gate.name for gate in check({"train_time_s": 60.0}, stated)] == ["train_time_s"]


def test_a_gap_at_its_limit_passes_in_spite_of_binary_fractions() -> None:
    assert 0.9999 - 0.9899 > 0.01
    (gate,) = check(evidence(test=0.9899, train=0.9999).metrics, Gates(train_test_gap=0.01))
    assert gate.passed


def test_what_is_not_a_number_passes_no_gate() -> None:
    gates = Gates(test_accuracy=0.0, latency_p95_ms=1e6)
    values = evidence(test=math.nan, p95_ms=math.nan).metrics
    assert not any(gate.passed for gate in check(values, gates))


def test_the_standard_error_at_the_papers_accuracy_is_a_tenth_of_a_point() -> None:
    assert evidence(test=0.99).standard_error == pytest.approx(0.000995, abs=1e-6)


def test_the_worst_recall_is_that_of_a_class_that_the_test_set_has() -> None:
    gates = Gates(macro_recall=0.99, worst_recall=0.9001)
    macro, worst = check(evidence(test=0.99).metrics, gates)
    assert (macro.value, macro.passed) == (0.99, True)
    assert (worst.value, worst.passed) == (0.9, False)
    assert check(evidence().metrics, Gates(worst_recall=0.9))[0].passed


def test_size_and_parameters_are_upper_limits() -> None:
    size, parameters = check(evidence().metrics, Gates(model_mb=0.93, parameters=225_034))
    assert (size.value, size.passed) == (0.94, False)
    assert (parameters.value, parameters.passed) == (225_034, True)


@pytest.mark.parametrize(
    ("won", "lost", "passed"),
    [
        (30, 30, True),
        (20, 40, False),  # may be worse by 0.33 points, seen to be by 0.2
        (60, 60, True),
        (100, 100, False),  # as good, but they differ too often for so few images
        (100, 50, True),
        (0, 0, True),
    ],
)
def test_a_loss_of_two_tenths_of_a_point_must_be_ruled_out(
    won: int, lost: int, passed: bool
) -> None:
    (gate,) = check(compared(won, lost).metrics, Gates())
    assert (gate.name, gate.limit) == ("champion_margin", 0.002)
    assert gate.passed is passed
    assert gate.value > (lost - won) / 10_000
    assert gate.against_champion


def test_few_images_rule_out_nothing_even_where_the_two_always_agree() -> None:
    assert not check(compared(0, 0, rows=360).metrics, Gates())[0].passed
    assert check(compared(0, 0, rows=360).metrics, Gates(champion_margin=0.02))[0].passed
    assert check(compared(12, 1, rows=360).metrics, Gates())[0].passed


@pytest.mark.parametrize(
    ("won", "lost", "passed"), [(5, 0, True), (4, 0, False), (36, 24, False), (40, 24, True)]
)
def test_better_than_the_champion_is_what_mcnemars_test_shows(
    won: int, lost: int, passed: bool
) -> None:
    margin, better = check(compared(won, lost).metrics, Gates(better_than_champion=True))
    assert margin.passed
    assert (better.name, better.limit, better.passed) == ("better_than_champion", 0.05, passed)


def test_without_a_champion_its_gates_are_left_out() -> None:
    assert check(evidence().metrics, Gates(better_than_champion=True)) == ()
