"""What goes through the pipe: one line of JSON a message, whatever is in it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from tests.workers.conftest import PlanMaker
from tuner.children import Refused
from tuner.training.plan import EpochEnded, EpochReport, SystemSample, SystemSampled
from tuner.workers import messages
from tuner.workers.messages import answer_adapter, request_adapter

words = st.text(max_size=20)
metrics = st.dictionaries(words, st.floats(), max_size=4)


@given(metrics, st.integers(1, 1000), st.floats(0, 1e6))
def test_epochs_and_samples_come_back_as_they_went_even_if_not_finite(
    metrics: dict[str, float], epoch: int, seconds: float
) -> None:
    report = EpochReport(
        epoch=epoch, metrics=metrics, train_s=seconds, validation_s=0.0, finished_ms=1
    )
    sample = SystemSample(at_ms=5, values=metrics)
    for sent in (EpochEnded(report=report), SystemSampled(sample=sample)):
        line = sent.model_dump_json()
        assert "\n" not in line
        # NaN differs from itself: what is written again must read the same.
        assert answer_adapter.validate_json(line).model_dump_json() == line


@given(words, words, st.dictionaries(words, st.none() | words | st.integers() | st.booleans()))
def test_text_of_any_kind_stays_in_its_line(
    message: str, traceback: str, hyperparameters: dict[str, str | int | bool | None]
) -> None:
    sent: list[messages.Answer] = [
        Refused(error="ModelError", message=message, traceback=traceback),
        messages.Described(hyperparameters=hyperparameters, source={"model.py": message}),
    ]
    for answer in sent:
        line = answer.model_dump_json()
        assert "\n" not in line
        assert answer_adapter.validate_json(line) == answer


def test_requests_come_back_as_they_went(make_plan: PlanMaker) -> None:
    plan = make_plan(params={"rate": 0.5, "units": 3, "act": "relu", "wide": True})
    sent: list[messages.Request] = [
        messages.Describe(model=plan.model, dataset="digits"),
        messages.Probe(plan=plan, precisions=("float32", "bfloat16")),
        messages.Train(plan=plan),
        messages.Prune(slot=plan.slot, attempt=plan.attempt),
        messages.Proceed(slot=plan.slot, attempt=plan.attempt, epoch=3),
    ]
    for request in sent:
        back = request_adapter.validate_json(request.model_dump_json())
        assert back == request
        assert back.model_dump_json() == request.model_dump_json()


def test_a_message_of_no_known_kind_is_refused() -> None:
    with pytest.raises(ValidationError, match="'fetch'"):
        request_adapter.validate_json('{"kind": "fetch"}')
