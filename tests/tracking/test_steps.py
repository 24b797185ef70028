"""What of a spool goes in one update: however it is cut, the run comes out the same."""

from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.tracking.recorder import Recorder, summary
from tuner.tracking.runs.run_update import RunUpdate
from tuner.tracking.shipping.steps import Run, ShippingStep, steps
from tuner.tracking.spool.spool import SpoolLine, parent_folder, read_lines


@pytest.fixture(scope="module")
def recorder(tmp_path_factory: pytest.TempPathFactory) -> Recorder:
    return Recorder(tmp_path_factory.mktemp("steps") / "sweep")


@pytest.fixture(scope="module")
def attempt(recorder: Recorder) -> list[SpoolLine]:
    folder = recorder.attempt(
        0, 0, recorder.started(0), recorder.epoch(1), recorder.sampled(0), recorder.epoch(2),
        recorder.epoch(2), recorder.kept(b"early"), recorder.ended(), recorder.displaced(),
        recorder.kept(b"late"),
    )  # fmt: skip
    return list(read_lines(folder, 0))


def planned(lines: list[SpoolLine], cuts: list[int]) -> list[ShippingStep]:
    """The steps of a spool of which so many lines were there at each look."""
    run: Run | None = None
    found: list[ShippingStep] = []
    for start, end in pairwise([0, *sorted(cuts), len(lines)]):
        found += steps(run, lines[start:end])
        run = found[-1].run if found else None
    return found


def outcome(updates: list[RunUpdate]) -> dict[str, Any]:
    """What a store holds after the updates, each point once."""
    points, params, tags, artifacts = set(), dict[str, str](), dict[str, str](), dict[str, Any]()
    status, ended_ms, dataset = None, None, None
    for update in updates:
        points |= set(update.points)
        params |= update.params
        tags |= update.tags
        artifacts |= {each.path: each.content for each in update.artifacts}
        for key in update.removed_tags:
            tags.pop(key, None)
        for folder in update.removed_artifacts:
            artifacts = {p: c for p, c in artifacts.items() if Path(p).parts[0] != folder}
        status, ended_ms = update.status or status, update.ended_ms or ended_ms
        dataset = update.dataset or dataset
    return {
        "points": points,
        "params": params,
        "tags": tags,
        "artifacts": artifacts,
        "ending": (status, ended_ms),
        "dataset": dataset,
    }


@given(cuts=st.lists(st.integers(0, 9)))
def test_a_run_is_the_same_however_its_spool_was_cut(
    attempt: list[SpoolLine], cuts: list[int]
) -> None:
    alone = planned(attempt, list(range(len(attempt))))
    together = planned(attempt, cuts)
    assert outcome([step.update for step in together]) == outcome([step.update for step in alone])
    assert together[-1].run == alone[-1].run
    assert together[-1].end == attempt[-1].end
    assert sum(step.lines for step in together) == len(attempt)


def test_an_attempt_that_is_over_goes_in_one_update(recorder: Recorder) -> None:
    recorder.trial(7)
    folder = recorder.folder / "attempts" / "7-0"
    (step,) = steps(None, list(read_lines(folder, 0)))
    assert step.ends_attempt
    assert step.update.status == "FINISHED"


def test_a_studys_progress_goes_together_and_its_end_alone(recorder: Recorder) -> None:
    progress = [recorder.progressed(summary(number)) for number in range(3)]
    recorder.parent(recorder.opened(), *progress, recorder.closed())
    lines = list(read_lines(parent_folder(recorder.folder), 0))
    assert [step.lines for step in steps(None, lines)] == [1, 3, 1]


@given(damaged=st.sets(st.integers(1, 8)))
def test_a_line_that_says_nothing_costs_itself_alone(
    attempt: list[SpoolLine], damaged: set[int]
) -> None:
    lines = [
        SpoolLine(b"\0" * 8 + line.text[8:], line.end, line.folder) if number in damaged else line
        for number, line in enumerate(attempt)
    ]
    found = list(steps(None, lines))
    told = [note for step in found for note in step.refused]
    assert len(told) == len(damaged)
    rest = [line for number, line in enumerate(attempt) if number not in damaged]
    expected = planned(rest, [])
    assert outcome([step.update for step in found]) == outcome([each.update for each in expected])
