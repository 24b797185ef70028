"""Ships one spool into one run: in order, step by step, each step at least once.

Progress is written after each step. A shipper that is killed at any point resumes there or repeats
one step, which adds nothing. Measurements are collected for some seconds. A study's own tables and
figures show all trials, so they are drawn now and then instead of after each trial, and at the end.
"""

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from pydantic import ValidationError

from tuner.errors import RefusedError
from tuner.tracking.mlflow.experiments import ExperimentError
from tuner.tracking.mlflow.mlflow_store import REFUSED_TAG, MlflowStore, OpenRun, RunGoneError
from tuner.tracking.runs.attempt_run import AttemptRun
from tuner.tracking.runs.figures import Figure
from tuner.tracking.runs.run_update import RunOpening, RunUpdate
from tuner.tracking.runs.study_run import StudyRun
from tuner.tracking.shipping.steps import Run, ShippingStep, are_measurements, beginning, steps
from tuner.tracking.spool.shipped import Progress, is_of, load_progress, save_progress
from tuner.tracking.spool.spool import first_line_digest, is_parent, openings, read_lines

_MEASURE_S = 10.0
"""Least seconds between updates of a run that contain measurements only."""

_REDRAW_S = 30.0
"""Least seconds between two drawings of a study's tables and figures."""

_NOTHING: tuple[int, int, list[ShippingStep]] = 0, 0, []

_logger = logging.getLogger(__name__)


class SpoolShipment:
    """Ships the spool in `folder` to `store`.

    Args:
        folder: the spool's folder.
        store: where the run is.
        begin: begins to draw a figure, once; the `png` of the returned figure waits for the end.
    """

    def __init__(self, folder: Path, store: MlflowStore, begin: Callable[[Figure], Figure]) -> None:
        self.folder = folder
        self._store = store
        self._begin = begin
        known = load_progress(folder)
        usable = known is not None and known.destination == store.destination
        self.progress = known if known and usable else Progress(destination=store.destination)
        self._run: Run | None = None
        self._planned = _NOTHING
        """From and to which byte the spool is planned, and the steps, whose figures are drawn."""
        self._purged: str | None = None
        """The purged run that this spool's new run replaces."""
        self.made: RunOpening | None = None
        """The run that the last `ship` made and ended. Another shipper may have made it too."""
        self.waits_for_parent = False
        """Whether nothing can be shipped before another home opens the study's run."""
        self._measure_at = self._draw_at = 0.0

    @property
    def pending(self) -> int:
        """The number of events that are not shipped; figures to be drawn count as one."""
        unread = sum(1 for _ in read_lines(self.folder, self.progress.offset))
        return unread + self.progress.undrawn

    def ship(self, go_on: Callable[[], bool], *, finishing: bool) -> int:
        """Ships new events and returns their number.

        Ships nothing while the run's parent is missing, which another machine ships.

        Args:
            go_on: called before each step; False ends the shipping early.
            finishing: whether the driver is gone, so that no more events will come.

        Raises:
            UnavailableError: MLflow does not answer; the events wait in the spool.
            ExperimentError: a person must repair the experiment first.
        """
        if not is_of(self.progress, self.folder):
            self._begin_anew(self.progress.from_the_beginning())
        before, self.made = self.progress.run_id, None
        try:
            shipped = self._ship_new(go_on, finishing=finishing)
            if before not in (None, self.progress.run_id):
                shipped += self._ship_new(go_on, finishing=finishing)
        finally:
            self._planned = _NOTHING  # figures and logs of thousands of spools would stay in memory
        return shipped

    @property
    def coming(self) -> RunOpening | None:
        """The run that the prepared steps will open; None if there is none."""
        _, _, planned = self._planned
        run = planned[0].run if planned else None
        unknown = run is not None and self.progress.run_id is None and not run.opening.foreign
        return run.opening if run and unknown else None

    def prepare(self, *, finishing: bool) -> None:
        """Plans the next steps and begins to draw their figures."""
        with suppress(OSError):  # `ship` will raise it
            steps = self._steps(finishing=finishing)
            begun = [replace(step, update=self._begun(step.update)) for step in steps]
            self._planned = *self._planned[:2], begun

    def know_runs(self, runs: Mapping[str, str]) -> None:
        """Adds run ids of attempts, by uid, to a study's tables."""
        run = self._known()
        if isinstance(run, StudyRun):
            self._run = run.knowing(runs)
            if self._run.undrawn != self.progress.undrawn:
                self._advance(undrawn=self._run.undrawn)

    def _ship_new(self, go_on: Callable[[], bool], *, finishing: bool) -> int:
        now = time.monotonic()
        shipped = 0
        for step in self._steps(finishing=finishing):
            if not go_on() or not self._ship(step):
                return shipped
            shipped += step.lines
        if shipped:
            self._measure_at = now + _MEASURE_S
        if self.progress.undrawn and (finishing or now >= self._draw_at) and go_on():
            self._draw()
            self._draw_at = now + _REDRAW_S
        return shipped

    def _steps(self, *, finishing: bool) -> list[ShippingStep]:
        """The next steps, planned once for each state of the spool."""
        start = self.progress.offset
        lines = list(read_lines(self.folder, start))
        waits = time.monotonic() < self._measure_at and not finishing
        if not lines or (waits and are_measurements(lines)):
            return []
        part = start, lines[-1].end
        if self._planned[:2] != part:
            run = self._known() or self._told()
            if run is None and not finishing:
                return []  # its driver will begin it anew
            self._planned = *part, list(steps(run, lines))
        return self._planned[2]

    def _begun(self, update: RunUpdate) -> RunUpdate:
        """The update, whose figures are now being drawn."""
        artifacts = tuple(
            each
            if isinstance(each.content, str | bytes | Path)
            else replace(each, content=self._begin(each.content))
            for each in update.artifacts
        )
        return replace(update, artifacts=artifacts)

    def _known(self) -> Run | None:
        """The run after the events that are shipped; None before the first."""
        if self._run is None and self.progress.offset:
            self._run = self._recalled()
        return self._run

    def _told(self) -> Run | None:
        """The run as the spool identifies it, in any line, since the first may be damaged.

        A driver begins a damaged spool anew with its next event. If the driver has left, the
        attempt's run that was shipped to is continued.
        """
        opening = next(openings(self.folder), None)
        if opening is not None:
            return beginning(opening)
        uid = self.progress.uid
        return AttemptRun.foreign(uid) if uid and not is_parent(self.folder) else None

    def _recalled(self) -> Run | None:
        run = self._told()
        for line in read_lines(self.folder, 0):
            if line.end > self.progress.offset:
                break
            event = line.event_or_error()
            if not isinstance(event, ValidationError):
                run = run.after(event) if run else None
        return replace(run, undrawn=self.progress.undrawn) if isinstance(run, StudyRun) else run

    def _ship(self, step: ShippingStep) -> bool:
        """Applies the step, or notes that the whole step is refused."""
        try:
            return self._applied(step)
        except ExperimentError:
            raise
        except RefusedError as error:
            self._refuse(_located(step.end, [str(error)]))
            self._advance(offset=step.end)
            return True

    def _applied(self, step: ShippingStep) -> bool:
        try:
            return self._apply(step)
        except RunGoneError:
            return self._is_found_again() and self._apply(step)

    def find_again(self) -> None:
        """Checks that the run still exists, since attempts wait for it."""
        if self.progress.run_id is not None:
            self._is_found_again()

    def _is_found_again(self) -> bool:
        """Whether the run could be restored.

        Otherwise the spool is shipped from its first event, which makes a new run if the old one
        was purged.
        """
        known = self.progress
        first = self._store.find(known.uid)
        if first == known.run_id:
            return True
        if first is None:
            self._purged = known.run_id
        self._begin_anew(Progress(destination=known.destination, uid=known.uid, run_id=first))
        return False

    def _begin_anew(self, progress: Progress) -> None:
        self._run = None
        self._planned = _NOTHING
        self.progress = progress
        save_progress(self.folder, progress)

    def _apply(self, step: ShippingStep) -> bool:
        if step.run is not None:
            opened = self._opened(step.run.opening)
            if opened is not None:
                update = self._begun(step.for_run(is_new=opened.is_new))
                self._refuse(_located(step.end, self._store.apply(opened, update)))
                self._describe_above(step, update)
                if update.ended_ms is not None:
                    if opened.is_new:
                        self.made = step.run.opening
                    elif self.leave_double():
                        return False
            elif not step.run.opening.foreign:
                return False
        self._refuse(step.refused)
        ended = self.progress.ended or step.ends_attempt
        self._run = None if ended else step.run  # keep no memory of thousands of ended attempts
        undrawn = isinstance(step.run, StudyRun) and step.run.undrawn
        self._advance(offset=step.end, ended=ended, undrawn=undrawn)
        return True

    def _describe_above(self, step: ShippingStep, update: RunUpdate) -> None:
        """Tells the run of the study that a confirmation or refit belongs to what came of it."""
        below = step.run.opening.below if step.run and update.sections_above else None
        run_id = None if below is None else self._store.find_active(below)
        if run_id is not None:
            told = RunUpdate(sections=update.sections_above)
            self._refuse(_located(step.end, self._store.apply(OpenRun(run_id), told)))

    def _draw(self) -> None:
        run = self._known()
        assert isinstance(run, StudyRun)
        assert self.progress.run_id is not None
        update = self._begun(RunUpdate(artifacts=run.artifacts()))
        refusals = self._store.apply(OpenRun(self.progress.run_id), update)
        self._refuse(_located(self.progress.offset, refusals))
        self._run = replace(run, undrawn=False)
        self._advance(undrawn=False)

    def _opened(self, opening: RunOpening) -> OpenRun | None:
        """The run; None if its parent has none, or no home has made a foreign one."""
        if self.progress.run_id is not None:
            return OpenRun(self.progress.run_id)
        parent_id = None
        if opening.foreign:
            run_id = self._store.find(opening.uid)
            self._advance(uid=opening.uid, run_id=run_id)
            return None if run_id is None else OpenRun(run_id)
        if opening.parent_uid is not None:
            parent_id = self._store.find_parent(opening.parent_uid)
            self.waits_for_parent = parent_id is None
            if parent_id is None:
                return None
        if opening.below is not None:
            parent_id = self._store.find_active(opening.below)
        if opening.predecessor_uid is not None:
            predecessor = self._store.find(opening.predecessor_uid) or ""
            tags = {**opening.tags, "tuner.predecessor_run_id": predecessor}
            opening = replace(opening, tags=tags)
        return self._created(opening, parent_id)

    def _created(self, opening: RunOpening, parent_id: str | None) -> OpenRun:
        run = self._store.find_or_create(opening, parent_id)
        if self._purged is not None:
            self._store.adopt(run.run_id, self._purged)
            self._purged = None
        self._advance(uid=opening.uid, run_id=run.run_id)
        return run

    def leave_double(self) -> bool:
        """Removes doubles of the run. Returns whether another one stays, which begins anew."""
        known = self.progress
        first = self._store.remove_doubles(known.uid)
        if first in (None, known.run_id):
            return False
        self._begin_anew(Progress(destination=known.destination, uid=known.uid, run_id=first))
        return True

    def _refuse(self, notes: Sequence[str]) -> None:
        """Notes what the run lacks: in the log, the progress and the run."""
        if not notes:
            return
        for note in notes:
            _logger.error("%s: %s", self.folder, note)
        refused = (*self.progress.refused, *notes)
        self._advance(refused=refused)
        if self.progress.run_id is not None:
            with suppress(RefusedError):  # the run was deleted with its study
                tags = {REFUSED_TAG: str(len(refused))}
                self._store.apply(OpenRun(self.progress.run_id), RunUpdate(tags=tags))

    def _advance(self, **changes: object) -> None:
        spool = self.progress.spool or first_line_digest(self.folder)
        self.progress = self.progress.model_copy(update={"spool": spool, **changes})
        save_progress(self.folder, self.progress)


def _located(end: int, refusals: Sequence[str]) -> list[str]:
    return [f"event up to byte {end}: {refusal}" for refusal in refusals]
