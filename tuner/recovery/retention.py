"""Retention: which models and checkpoints of a study are kept, and until when.

Models of the `keep_models` completed trials that rank first go to MLflow, and stay in their
attempts' folders while they do. The model of any other trial is removed when the trial ends, or
when a better one displaces it. While a point still has seeds to train, its models wait: which of
its trainings represents it is known when all have ended.

A checkpoint stays until its trial has ended, or the user's code has changed.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

from optuna.trial import FrozenTrial

from tuner.files import PARTIAL
from tuner.home import Home
from tuner.models.model_file import sha256_of
from tuner.recording.journal import Journal
from tuner.search.points import point_of, slots_of
from tuner.search.race_trials import chosen_point, race_state, values_of
from tuner.search.ranking import in_order, rank, trainings
from tuner.spec.study_spec import StudySpec
from tuner.storage.attempts import Ledger
from tuner.storage.tables import SLOT
from tuner.training.plan import CHECKPOINT, MODEL


def latest_checkpoint(home: Home, study: str, slot: int, before: int) -> Path | None:
    """The newest checkpoint of the slot's attempts before number `before`; None if none has one."""
    return next(_checkpoints(home, study, slot, before), None)


def remove_checkpoints(home: Home, study: str, slot: int, until: int) -> None:
    """Removes the checkpoints of the slot's attempts up to number `until`."""
    for number in range(until + 1):
        folder = home.attempt(study, slot, number)
        for name in (CHECKPOINT, PARTIAL + CHECKPOINT):
            (folder / name).unlink(missing_ok=True)


def keep_checkpoints_of(home: Home, study: str, code: str, *, only: bool) -> None:
    """Removes checkpoints that other code wrote, so that no trial mixes two versions of the code.

    Args:
        home: the home; the caller holds its driver lock.
        study: the study's name.
        code: the digest of the present code.
        only: whether the study has had no other code.
    """
    mark = home.current_study(study) / "code"
    before = mark.read_text() if mark.exists() else code if only else ""
    if before != code:
        for path in home.attempts(study).glob(f"*/*{CHECKPOINT}"):
            path.unlink(missing_ok=True)
    if not mark.exists() or before != code:
        mark.write_text(code)


def _checkpoints(home: Home, study: str, slot: int, before: int) -> Iterator[Path]:
    """The slot's checkpoints, from the newest to the oldest."""
    for number in reversed(range(before)):
        path = home.attempt(study, slot, number) / CHECKPOINT
        if path.exists():
            yield path


class BestModels:
    """Keeps the models of the `keep_models` trials that rank first, and removes the others.

    The kept ones are read from the spools at the start, so that a driver's death loses none. A
    model that lies on another machine is kept by a driver there.
    """

    def __init__(
        self,
        home: Home,
        spec: StudySpec,
        ledger: Ledger,
        journal: Journal,
        rows: Sequence[FrozenTrial],
    ) -> None:
        """Keeps and removes what a dead driver of this home did not get to."""
        self._home = home
        self._spec = spec
        self._ledger = ledger
        self._journal = journal
        self._kept = {
            slot: folder
            for slot, attempt in ledger.latest().items()
            if journal.keeps_model(folder := self._folder(slot, attempt.number))
        }
        self._waiting: dict[int, Path] = {}
        """By slot: folders of models that may be kept once all seeds of their point have ended."""
        self._elsewhere: set[int] = set()
        """Slots whose model is not in this home."""
        self.consider(rows)
        for folder in home.attempts(spec.name).glob("*"):
            self.attempt_ended(folder)

    def attempt_ended(self, folder: Path) -> None:
        """Removes the attempt's model, unless it is kept or waits, and partly written files."""
        if folder not in (*self._kept.values(), *self._waiting.values()):
            for path in (folder / MODEL, *folder.glob(f"{PARTIAL}*")):
                path.unlink(missing_ok=True)

    def consider(self, rows: Sequence[FrozenTrial]) -> None:
        """Keeps the models of the best `rows`, and displaces the others."""
        completed = trainings(rows)
        ranked = rank(self._spec, completed)
        if self._spec.race is not None:
            chosen = chosen_point(self._spec, rows)  # which need not have the best mean
            ranked.sort(key=lambda each: each.point != chosen)
        keep = self._spec.keep_models
        first = in_order(ranked[:keep])[:keep]  # each point has a training
        best = {training.slot for training in first}
        undecided = self._undecided(rows).intersection(each.slot for each in completed)
        waited = self._waiting
        self._waiting = {slot: waited.get(slot) or self._found(slot) for slot in undecided - best}
        for slot in sorted(best - self._kept.keys() - self._elsewhere):
            self._keep(slot)
        for slot in sorted(self._kept.keys() - best):
            folder = self._kept.pop(slot)
            self._journal.model_displaced(folder)
            self.attempt_ended(folder)
        for slot in waited.keys() - self._waiting.keys():
            self.attempt_ended(waited[slot])

    def leave(self) -> None:
        """Keeps waiting models too: a driver of another machine may end their points."""
        for slot in sorted(self._waiting.keys() - self._elsewhere):
            self._keep(slot)

    def _undecided(self, rows: Sequence[FrozenTrial]) -> set[int]:
        """The slots of the points that still have seeds to train."""
        if self._spec.race is not None:
            over = race_state(self._spec, values_of(self._spec, rows)).over
            return set() if over else set(range(self._spec.slots))
        ended = Counter(
            point_of(self._spec, row.user_attrs[SLOT]) for row in rows if row.state.is_finished()
        )
        points = (point for point, count in ended.items() if count < self._spec.seeds)
        return {slot for point in points for slot in slots_of(self._spec, point)}

    def _keep(self, slot: int) -> None:
        folder = self._found(slot)
        path = folder / MODEL
        if path.exists():
            self._journal.model_kept(folder, path, sha256_of(path))
            self._kept[slot] = folder
        else:
            self._elsewhere.add(slot)

    def _found(self, slot: int) -> Path:
        attempt = self._ledger.latest_of(slot)
        return self._folder(slot, 0 if attempt is None else attempt.number)

    def _folder(self, slot: int, number: int) -> Path:
        return self._home.attempt(self._spec.name, slot, number)
