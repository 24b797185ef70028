"""What of a spool goes to MLflow in one call, and what may wait or be left out."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import groupby

from pydantic import ValidationError

from tuner.tracking.events import Event, ModelDisplaced, ModelKept
from tuner.tracking.spool import SpoolLine

_MEASUREMENTS = ("epoch-ended", "system-sampled", "study-progressed")

_BATCH = 100
"""Measurements that go in one call, at most."""


@dataclass(frozen=True)
class Entry:
    """A line of a spool, read."""

    event: Event | ValidationError
    """What the line says, or why it says nothing."""
    end: int
    superseded: bool = False
    """A later event of the same spool takes this one back."""


def are_measurements(lines: Sequence[SpoolLine]) -> bool:
    """Whether the lines tell of nothing but measurements, which can wait for more of them."""
    return all(line.kind in _MEASUREMENTS for line in lines)


def batches(lines: Sequence[SpoolLine]) -> Iterator[list[Entry]]:
    """Measurements in a row together, everything else alone."""
    for measured, group in groupby(_entries(lines), _is_measurement):
        rows = list(group)
        size = _BATCH if measured else 1
        yield from (rows[start : start + size] for start in range(0, len(rows), size))


def _entries(lines: Iterable[SpoolLine]) -> list[Entry]:
    """Models that a later line displaces are superseded; they need not be uploaded."""
    entries = [Entry(line.event_or_error(), line.end) for line in lines]
    about_models = [entry for entry in entries if _is_about_model(entry.event)]
    return [
        replace(entry, superseded=True)
        if entry in about_models[:-1] and isinstance(entry.event, ModelKept)
        else entry
        for entry in entries
    ]


def _is_measurement(entry: Entry) -> bool:
    return not isinstance(entry.event, ValidationError) and entry.event.kind in _MEASUREMENTS


def _is_about_model(event: Event | ValidationError) -> bool:
    return isinstance(event, ModelKept | ModelDisplaced)
