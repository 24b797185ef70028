"""The rules that evidence is judged by."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tuner.inference.latency import Latency
from tuner.promotion.gates import check
from tuner.promotion.judging.evidence import Evidence
from tuner.spec.study_spec import Gates
from tuner.training.plan import ClassScores, Evaluation

shares = st.floats(0, 1)
positive = st.floats(1e-6, 1e6)


def evidence(
    test: float = 0.99, train: float = 0.995, p95_ms: float = 2.0, train_time_s: float = 60.0
) -> Evidence:
    macro = ClassScores(label="macro", precision=test, recall=test, f1=test, support=10_000)
    return Evidence(
        test=Evaluation(accuracy=test, loss=0.03, confusion=(), classes=(), macro=macro),
        test_count=10_000,
        train_accuracy=train,
        latency=Latency(p50_ms=p95_ms, p95_ms=p95_ms, p99_ms=p95_ms, calls=1000),
        train_time_s=train_time_s,
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
