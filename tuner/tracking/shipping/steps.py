"""Plans which lines of a spool go to MLflow in one update.

The events of an attempt go together, as far as they are written, and so do measurements of a study.
An event that removes something goes alone, so that the order is kept.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import groupby

from pydantic import ValidationError

from tuner.errors import RefusedError
from tuner.tracking.runs.attempt_run import TRIAL_ARTIFACT, AttemptRun
from tuner.tracking.runs.run_update import RunUpdate, merged
from tuner.tracking.runs.study_run import StudyRun
from tuner.tracking.spool.spool import NO_EVENT, SpoolLine
from tuner.tracking.spool.spool_events import (
    AttemptAbandoned,
    AttemptEnded,
    AttemptStarted,
    Event,
    ModelDisplaced,
    ModelKept,
    StudyOpened,
)

Run = StudyRun | AttemptRun

_MEASUREMENTS = ("epoch-ended", "system-sampled", "study-progressed")
_TOGETHER = (*_MEASUREMENTS, "attempt-started", "model-kept", "attempt-ended")

_MOST_EVENTS = 100
"""The largest number in one update."""


@dataclass(frozen=True)
class ShippingStep:
    """One update of a run."""

    run: Run | None
    """The run after the step; None if no event has opened one."""
    update: RunUpdate
    events: tuple[Event, ...]
    """The events in the update."""
    end: int
    """The offset in bytes after its last line."""
    lines: int
    refused: tuple[str, ...]
    """Lines that cannot be applied to this run, each with its reason."""

    def for_run(self, *, is_new: bool) -> RunUpdate:
        """The update, without the record of the start if the run may have that of the end.

        A copy of a state folder contains the starts of attempts in progress, and may ship them
        late.
        """
        if is_new or any(isinstance(event, AttemptEnded) for event in self.events):
            return self.update
        kept = (each for each in self.update.artifacts if each.path != TRIAL_ARTIFACT)
        return replace(self.update, artifacts=tuple(kept))

    @property
    def ends_attempt(self) -> bool:
        """Whether the step contains the attempt's end."""
        return any(isinstance(event, AttemptEnded | AttemptAbandoned) for event in self.events)


def are_measurements(lines: Sequence[SpoolLine]) -> bool:
    """Whether the lines are measurements only, which can wait for more."""
    return all(line.kind in _MEASUREMENTS for line in lines)


def steps(run: Run | None, lines: Sequence[SpoolLine]) -> Iterator[ShippingStep]:
    """Yields the steps that ship the lines.

    Args:
        run: the run after the lines before; None if none of them identifies it.
        lines: the lines that are not shipped.
    """
    for entries in _batches(lines):
        step = _step(run, entries)
        yield step
        run = step.run


@dataclass(frozen=True)
class _Entry:
    event: Event | ValidationError
    end: int
    superseded: bool = False
    """Whether a later event of the spool takes this one back."""


def _batches(lines: Sequence[SpoolLine]) -> Iterator[list[_Entry]]:
    for together, group in groupby(_entries(lines), _goes_together):
        rows = list(group)
        size = _MOST_EVENTS if together else 1
        yield from (rows[start : start + size] for start in range(0, len(rows), size))


def _entries(lines: Iterable[SpoolLine]) -> list[_Entry]:
    """The lines' events. A model that a later line displaces is not uploaded."""
    entries = [_Entry(line.event_or_error(), line.end) for line in lines]
    about_models = [entry for entry in entries if _is_about_model(entry.event)]
    return [
        replace(entry, superseded=True)
        if entry in about_models[:-1] and isinstance(entry.event, ModelKept)
        else entry
        for entry in entries
    ]


def _is_about_model(event: Event | ValidationError) -> bool:
    return isinstance(event, ModelKept | ModelDisplaced)


def _goes_together(entry: _Entry) -> bool:
    return not isinstance(entry.event, ValidationError) and entry.event.kind in _TOGETHER


def _step(run: Run | None, entries: Sequence[_Entry]) -> ShippingStep:
    updates: list[RunUpdate] = []
    events: list[Event] = []
    refused: list[str] = []
    for entry in entries:
        try:
            run, update = _taken(run, entry)
        except RefusedError as error:
            refused.append(f"event up to byte {entry.end}: {error}")
        else:
            updates.append(update)
            events.append(entry.event)  # type: ignore[arg-type]
    end = entries[-1].end
    return ShippingStep(run, merged(updates), tuple(events), end, len(entries), tuple(refused))


def _taken(run: Run | None, entry: _Entry) -> tuple[Run, RunUpdate]:
    """The run after the event, and what the event changes.

    Raises:
        RefusedError: the event cannot be read, or does not belong to the run.
    """
    event = entry.event
    if isinstance(event, ValidationError):
        raise RefusedError(f"{NO_EVENT}: {event}") from event
    run = run or beginning(event)
    if run is None:
        raise RefusedError(f"{event.kind}: comes before its run was opened")
    update = RunUpdate() if entry.superseded else run.update(event)
    return run.after(event), update


def beginning(event: Event) -> Run | None:
    """The run that an event opens; None if it opens none."""
    match event:
        case StudyOpened():
            return StudyRun(event)
        case AttemptStarted():
            return AttemptRun.of(event)
        case AttemptAbandoned():
            return AttemptRun.foreign(event.uid, event.at_ms)
    return None
