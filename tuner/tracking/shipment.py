"""One spool on its way into one run: in order, in batches, each of them at least once.

Progress is written after each batch, so that a shipper killed at any point goes on where
it was or repeats one batch, which adds nothing. Measurements wait for one another for some
seconds. A study's own tables and figures show all its trials, so they are drawn now and then
instead of after each, and once more at the end.
"""

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from pydantic import ValidationError

from tuner.errors import RefusedError
from tuner.tracking.attempt_run import AbandonedRun, AttemptRun
from tuner.tracking.batches import Entry, are_measurements, batches
from tuner.tracking.events import (
    AttemptAbandoned,
    AttemptEnded,
    AttemptStarted,
    Event,
    ModelDisplaced,
    ModelKept,
    StudyClosed,
    StudyOpened,
)
from tuner.tracking.experiments import ExperimentError
from tuner.tracking.mlflow_store import REFUSED_TAG, MlflowStore, RunGoneError
from tuner.tracking.progress import Progress, is_of, load_progress, save_progress
from tuner.tracking.spool import NO_EVENT, first_line_digest, read_lines
from tuner.tracking.study_run import StudyRun
from tuner.tracking.updates import RunOpening, RunUpdate

_MEASURE_S = 10.0
"""How often measurements of one run go to MLflow, at most, while nothing else happens to it."""

_ENDS = AttemptEnded | AttemptAbandoned

_REDRAW_S = 30.0
"""How often a study's tables and figures are drawn while it runs, at most."""

_logger = logging.getLogger(__name__)

_Run = StudyRun | AttemptRun | AbandonedRun


class Shipment:
    """The spool in `folder`, on its way to `store`."""

    def __init__(self, folder: Path, store: MlflowStore) -> None:
        self.folder = folder
        self._store = store
        known = load_progress(folder)
        usable = known is not None and known.destination == store.destination
        self.progress = known if known and usable else Progress(destination=store.destination)
        self._run: _Run | None = None
        self._purged: str | None = None
        """The run that this spool's new one takes the place of."""
        self.waits_for_parent = False
        """Whether nothing can be shipped before somebody opens the study's run."""
        self._measure_at = self._draw_at = 0.0

    @property
    def pending(self) -> int:
        """Events that are not shipped yet; figures that are to be drawn count as one."""
        unread = sum(1 for _ in read_lines(self.folder, self.progress.offset))
        return unread + self.progress.undrawn

    def ship(self, go_on: Callable[[], bool], *, finishing: bool) -> int:
        """Ships what is new and returns how many events that were.

        Nothing is shipped as long as the run's parent is missing: another machine ships it.

        Args:
            go_on: asked before each batch; False ends the shipping early.
            finishing: the driver has gone, so nothing waits for more to come.

        Raises:
            UnavailableError: MLflow does not answer; what is left waits in the spool.
        """
        if not is_of(self.progress, self.folder):
            self._begin_anew(self.progress.from_the_beginning())
        before = self.progress.run_id
        shipped = self._ship_new(go_on, finishing=finishing)
        if before not in (None, self.progress.run_id):
            shipped += self._ship_new(go_on, finishing=finishing)
        return shipped

    def know_runs(self, runs: Mapping[str, str]) -> None:
        """Lets a study's tables name the runs that have come to be known, by uid."""
        run = self._known()
        if isinstance(run, StudyRun):
            self._run = run.knowing(runs)
            if self._run.undrawn != self.progress.undrawn:
                self._advance(undrawn=self._run.undrawn)

    def _ship_new(self, go_on: Callable[[], bool], *, finishing: bool) -> int:
        now = time.monotonic()
        lines = list(read_lines(self.folder, self.progress.offset))
        if lines and are_measurements(lines) and now < self._measure_at and not finishing:
            return 0
        shipped = 0
        for batch in batches(lines):
            if not go_on() or not self._ship(batch):
                return shipped
            shipped += len(batch)
        if shipped:
            self._measure_at = now + _MEASURE_S
        if self.progress.undrawn and (finishing or now >= self._draw_at) and go_on():
            self._draw()
            self._draw_at = now + _REDRAW_S
        return shipped

    def _known(self) -> _Run | None:
        """What the shipped events told; later ones build on it."""
        if self._run is None and self.progress.offset:
            self._run = self._recalled()
        return self._run

    def _recalled(self) -> _Run | None:
        run: _Run | None = None
        for line in read_lines(self.folder, 0):
            if line.end > self.progress.offset:
                break
            event = line.event_or_error()
            if not isinstance(event, ValidationError):
                run = run.after(event) if run else _beginning(event, self.progress.uid)
        return replace(run, undrawn=self.progress.undrawn) if isinstance(run, StudyRun) else run

    def _ship(self, batch: Sequence[Entry]) -> bool:
        """Ships a batch, if need be one by one, and skips what is refused whole."""
        try:
            return self._apply(batch)
        except RunGoneError:
            return self._is_found_again() and self._apply(batch)
        except ExperimentError:
            raise
        except RefusedError as error:
            if len(batch) > 1:
                return all(self._ship([entry]) for entry in batch)
            self._refuse(batch[0].end, [str(error)])
            self._advance(offset=batch[0].end)
            return True

    def find_again(self) -> None:
        """Makes sure that the run is still there, which others wait for."""
        if self.progress.run_id is not None:
            self._is_found_again()

    def _is_found_again(self) -> bool:
        """Whether the run could be restored; else the spool is shipped from its beginning.

        That makes a new run if the former one was purged.
        """
        known = self.progress
        first = self._store.find(known.uid)
        if first == known.run_id:
            return True
        if first is None:
            self._purged = known.run_id
        self._begin_anew(Progress(destination=known.destination, uid=known.uid, run_id=first))
        return False

    def _leave_double(self) -> bool:
        """Begins anew in the run that others have agreed on; whether this one was its double."""
        known = self.progress
        first = self._store.find(known.uid) if known.run_id is not None else None
        if first in (None, known.run_id):
            return False
        self._begin_anew(Progress(destination=known.destination, uid=known.uid, run_id=first))
        return True

    def _begin_anew(self, progress: Progress) -> None:
        self._run = None
        self.progress = progress
        save_progress(self.folder, progress)

    def _apply(self, batch: Sequence[Entry]) -> bool:
        run, updates = self._known(), []
        for entry in batch:
            if isinstance(entry.event, ValidationError):
                raise RefusedError(f"{NO_EVENT}: {entry.event}") from entry.event
            run = run or _beginning(entry.event, self.progress.uid)
            if run is None:
                raise RefusedError(f"{entry.event.kind}: comes before its run was opened")
            updates.append(RunUpdate() if entry.superseded else run.update(entry.event))
            run = run.after(entry.event)
        assert run is not None
        if isinstance(batch[-1].event, StudyClosed) and self._leave_double():
            return False
        run_id = self.progress.run_id or self._open(run.opening)
        if run_id is not None:
            self._refuse(batch[-1].end, self._update(run_id, _merged(updates)))
        elif not run.opening.foreign:
            return False
        self._run = run
        self._advance(
            offset=batch[-1].end,
            ended=self.progress.ended or any(isinstance(e.event, _ENDS) for e in batch),
            undrawn=isinstance(run, StudyRun) and run.undrawn,
        )
        return True

    def _draw(self) -> None:
        run = self._known()
        assert isinstance(run, StudyRun)
        assert self.progress.run_id is not None
        update = RunUpdate(artifacts=run.artifacts())
        self._refuse(self.progress.offset, self._store.apply(self.progress.run_id, update))
        self._run = replace(run, undrawn=False)
        self._advance(undrawn=False)

    def _open(self, opening: RunOpening) -> str | None:
        """The id of the run, None when its parent has none yet or nobody made a foreign one."""
        parent_id = None
        if opening.foreign:
            return self._store.find(opening.uid)
        if opening.parent_uid is not None:
            parent_id = self._store.find(opening.parent_uid)
            self.waits_for_parent = parent_id is None
            if parent_id is None:
                return None
        if opening.predecessor_uid is not None:
            predecessor = self._store.find(opening.predecessor_uid) or ""
            tags = {**opening.tags, "tuner.predecessor_run_id": predecessor}
            opening = replace(opening, tags=tags)
        run_id = self._store.find_or_create(opening, parent_id)
        if self._purged is not None:
            self._store.adopt(run_id, self._purged)
            self._purged = None
        self._advance(uid=opening.uid, run_id=run_id)
        return run_id

    def _update(self, run_id: str, update: RunUpdate) -> list[str]:
        refusals = self._store.apply(run_id, update)
        if update.ended_ms is not None:
            self._store.remove_doubles(self.progress.uid, run_id)
        return refusals

    def _refuse(self, end: int, refusals: Sequence[str]) -> None:
        """Says what the run will not have, in the log, the progress and the run itself."""
        if not refusals:
            return
        notes = [f"event up to byte {end}: {refusal}" for refusal in refusals]
        for note in notes:
            _logger.error("%s: %s", self.folder, note)
        refused = (*self.progress.refused, *notes)
        self._advance(refused=refused)
        if self.progress.run_id is not None:
            with suppress(RefusedError):  # a run that was deleted with its study
                tags = {REFUSED_TAG: str(len(refused))}
                self._store.apply(self.progress.run_id, RunUpdate(tags=tags))

    def _advance(self, **changes: object) -> None:
        spool = self.progress.spool or first_line_digest(self.folder)
        self.progress = self.progress.model_copy(update={"spool": spool, **changes})
        save_progress(self.folder, self.progress)


def _beginning(event: Event, uid: str) -> _Run | None:
    """The run that an event begins, or goes on with where the spool of `uid` was deleted."""
    match event:
        case StudyOpened():
            return StudyRun(event)
        case AttemptStarted():
            return AttemptRun(event)
        case AttemptAbandoned():
            return AbandonedRun(event.uid, event.at_ms)
        case ModelKept() | ModelDisplaced() if uid:
            return AbandonedRun(uid, event.at_ms)
    return None


def _merged(updates: Sequence[RunUpdate]) -> RunUpdate:
    if len(updates) == 1:
        return updates[0]
    return RunUpdate(points=tuple(point for update in updates for point in update.points))
