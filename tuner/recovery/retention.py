"""Which trials' models are kept: those of the best points' completed trials so far.

They go to MLflow, and stay in their attempts' folders for as long as they are among the best.
The file of any other trial goes when the trial ends, or when a better one takes its place; but
while a point still has seeds to train, its files wait: which training will stand for it shows
when all have ended.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

from optuna.trial import FrozenTrial

from tuner.home import Home
from tuner.models.model_file import sha256_of
from tuner.recording.journal import Journal
from tuner.search.points import point_of
from tuner.search.ranking import in_order, rank, trainings
from tuner.spec.study_spec import StudySpec
from tuner.storage.attempts import Ledger
from tuner.storage.tables import SLOT
from tuner.training.plan import CHECKPOINT, MODEL


def latest_checkpoint(home: Home, study: str, slot: int, before: int) -> Path | None:
    """The newest one of the attempts at the slot that came before attempt `before`."""
    return next(_checkpoints(home, study, slot, before), None)


def remove_checkpoints(home: Home, study: str, slot: int, until: int) -> None:
    """Removes those of all attempts at the slot up to attempt `until`."""
    for number in range(until + 1):
        folder = home.attempt(study, slot, number)
        for name in (CHECKPOINT, f"partial-{CHECKPOINT}"):  # of a trainer killed while it wrote
            (folder / name).unlink(missing_ok=True)


def keep_checkpoints_of(home: Home, study: str, code: str, *, only: bool) -> None:
    """Removes those that were written by other code: half a trial would be of either.

    Args:
        home: whose driver lock the caller holds.
        study: its name.
        code: the digest of the code that holds now.
        only: whether the study has had no other.
    """
    mark = home.devoted(study) / "code"
    before = mark.read_text() if mark.exists() else code if only else ""
    if before != code:
        for path in home.attempts(study).glob(f"*/*{CHECKPOINT}"):
            path.unlink(missing_ok=True)
    if not mark.exists() or before != code:
        mark.write_text(code)


def _checkpoints(home: Home, study: str, slot: int, before: int) -> Iterator[Path]:
    """From the newest to the oldest."""
    for number in reversed(range(before)):
        path = home.attempt(study, slot, number) / CHECKPOINT
        if path.exists():
            yield path


class BestModels:
    """Keeps the models of the `keep_models` trials that rank first, and removes the others.

    What is kept is read from the spools once, so that nothing is forgotten when a driver
    dies. A model that lies on another machine is that machine's driver's to keep.
    """

    def __init__(
        self,
        home: Home,
        spec: StudySpec,
        ledger: Ledger,
        journal: Journal,
        rows: Sequence[FrozenTrial],
    ) -> None:
        """Settles what a driver of this home that died may have left unsettled."""
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
        """By slot: what is not kept, but may be once its point has ended."""
        self._elsewhere: set[int] = set()
        self.consider(rows)
        for folder in home.attempts(spec.name).glob("*"):
            self.attempt_ended(folder)

    def attempt_ended(self, folder: Path) -> None:
        """Removes the attempt's model, unless it is kept or waits, and what was cut short."""
        if folder not in (*self._kept.values(), *self._waiting.values()):
            for path in (folder / MODEL, *folder.glob("partial-*")):
                path.unlink(missing_ok=True)

    def consider(self, rows: Sequence[FrozenTrial]) -> None:
        """Compares what is kept with the best of the rows."""
        completed = trainings(rows)
        first = in_order(rank(self._spec, completed))[: self._spec.keep_models]
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
        """Keeps what waits too: the driver that ends its points may be on another machine."""
        for slot in sorted(self._waiting.keys() - self._elsewhere):
            self._keep(slot)

    def _undecided(self, rows: Sequence[FrozenTrial]) -> set[int]:
        """The slots of the points that still have seeds to train."""
        seeds = self._spec.seeds
        ended = Counter(
            point_of(self._spec, row.user_attrs[SLOT]) for row in rows if row.state.is_finished()
        )
        points = (point for point, count in ended.items() if count < seeds)
        return {slot for point in points for slot in range(point * seeds, (point + 1) * seeds)}

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
