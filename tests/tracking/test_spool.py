"""The spool: what is written is read, whole lines only, whatever cuts a write off."""

import json
import math
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from tests.tracking.recorder import Recorder, report
from tuner.tracking.spool.spool import (
    SpoolLine,
    SpoolWriter,
    attempt_folder,
    encode,
    parent_folder,
    read_events,
    spool_folders,
)
from tuner.tracking.spool.spool_events import (
    AttemptStarted,
    TrialSummary,
    event_adapter,
)
from tuner.training.plan import (
    EpochEnded,
    EpochReport,
    SystemSample,
    SystemSampled,
)

names = st.text(min_size=1, max_size=20)
numbers = st.floats(allow_nan=False)
scalars = st.booleans() | st.integers(-(2**53), 2**53) | numbers | st.text(max_size=20)


@given(st.dictionaries(names, numbers), st.integers(0, 2**50))
def test_measurements_come_back_as_they_went(values: dict[str, float], at_ms: int) -> None:
    epoch = EpochReport(epoch=1, metrics=values, train_s=1, validation_s=0, finished_ms=at_ms)
    for event in (
        EpochEnded(report=epoch),
        SystemSampled(sample=SystemSample(at_ms=at_ms, values=values)),
    ):
        assert event_adapter.validate_json(encode(event)) == event


@given(st.dictionaries(names, scalars))
def test_parameters_keep_their_values_and_types(
    params: dict[str, bool | int | float | str],
) -> None:
    trial = TrialSummary(
        number=0, slot=0, state="completed", params=params, value=None, epochs=0,
        duration_s=None, run_id=None,
    )  # fmt: skip
    event = Recorder(Path("/nowhere").resolve(), files=False).progressed(trial)
    back = event_adapter.validate_json(encode(event))
    assert back == event
    assert repr(back) == repr(event)


def test_nan_survives(tmp_path: Path) -> None:
    with SpoolWriter(tmp_path) as spool:
        spool.append(EpochEnded(report=report(1, math.nan)))
    (event,), _ = read_events(tmp_path)
    assert isinstance(event, EpochEnded)
    assert math.isnan(event.report.metrics["accuracy"])


def test_reading_goes_on_where_it_stopped(tmp_path: Path, recorder: Recorder) -> None:
    with SpoolWriter(tmp_path) as spool:
        spool.append(recorder.epoch(1))
        first, offset = read_events(tmp_path)
        spool.append(recorder.epoch(2))
        second, end = read_events(tmp_path, offset)
    assert (first, second) == ([recorder.epoch(1)], [recorder.epoch(2)])
    assert read_events(tmp_path, end) == ([], end)


def test_a_torn_line_waits_until_it_is_whole(tmp_path: Path, recorder: Recorder) -> None:
    line = encode(recorder.epoch(2))
    with SpoolWriter(tmp_path) as spool:
        spool.append(recorder.epoch(1))
    with spool.path.open("ab") as file:
        file.write(line[:-5])
    events, offset = read_events(tmp_path)
    assert events == [recorder.epoch(1)]
    with spool.path.open("ab") as file:
        file.write(line[-5:])
    assert read_events(tmp_path, offset)[0] == [recorder.epoch(2)]


def test_the_next_writer_removes_what_was_cut_off(tmp_path: Path, recorder: Recorder) -> None:
    with SpoolWriter(tmp_path) as spool:
        spool.append(recorder.epoch(1))
    with spool.path.open("ab") as file:
        file.write(b'{"kind": "epo')
    with SpoolWriter(tmp_path) as spool:
        spool.append(recorder.epoch(2))
    assert read_events(tmp_path)[0] == [recorder.epoch(1), recorder.epoch(2)]


def test_an_event_is_one_line_of_json(tmp_path: Path, recorder: Recorder) -> None:
    with SpoolWriter(tmp_path) as spool:
        spool.append(recorder.ended("failed", reason="two\nlines\u2028"))
    (line,) = spool.path.read_text().splitlines()
    assert json.loads(line)["reason"] == "two\nlines\u2028"


def test_no_spool_has_no_events(tmp_path: Path) -> None:
    assert read_events(tmp_path / "missing") == ([], 0)


def test_the_parent_comes_first_then_attempts_by_number(tmp_path: Path) -> None:
    folders = [attempt_folder(tmp_path, 10, 0), attempt_folder(tmp_path, 9, 10)]
    folders += [attempt_folder(tmp_path, 9, 2), parent_folder(tmp_path)]
    for folder in folders:
        SpoolWriter(folder).close()
    attempt_folder(tmp_path, 11, 0).mkdir()
    assert [folder.name for folder in spool_folders(tmp_path)] == ["parent", "9-2", "9-10", "10-0"]


def test_a_plan_that_told_its_parameters_three_times_is_read(recorder: Recorder) -> None:
    """As versions wrote it whose plans had a recipe and the model's parameters of their own."""
    started = recorder.started(0)
    former = json.loads(encode(started))
    former["plan"]["recipe"] = started.plan.recipe.model_dump(mode="json")
    former["plan"]["model"]["params"] = {"dropout_rate": 0.4}
    folder = Path("/nowhere").resolve()
    event = SpoolLine(json.dumps(former).encode() + b"\n", 0, folder).event()
    assert event == SpoolLine(encode(started), 0, folder).event()
    assert isinstance(event, AttemptStarted)
    assert event.plan.recipe.learning_rate == 0.01
