"""Which trials' models are kept: those of the best completed trials so far.

They go to MLflow, and stay in their attempts' folders for as long as they are among the best.
The file of any other trial goes when the trial ends, or when a better one takes its place.
"""

from collections.abc import Iterable
from pathlib import Path

from optuna.trial import FrozenTrial

from tuner.home import Home
from tuner.models.model_file import sha256_of
from tuner.spec.study import StudySpec
from tuner.study.journal import Journal
from tuner.study.ledger import Ledger
from tuner.study.summary import best_rows
from tuner.study.trials import SLOT
from tuner.training.plan import MODEL


class BestModels:
    """Keeps the models of the `keep_models` best trials, and removes the others.

    What is kept is read from the spools once, so that nothing is forgotten when a driver
    dies. A model that lies on another machine is that machine's driver's to keep.
    """

    def __init__(
        self,
        home: Home,
        spec: StudySpec,
        ledger: Ledger,
        journal: Journal,
        rows: Iterable[FrozenTrial],
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
        self._elsewhere: set[int] = set()
        self.consider(rows)
        for folder in home.attempts(spec.name).glob("*"):
            self.attempt_ended(folder)

    def attempt_ended(self, folder: Path) -> None:
        """Removes the attempt's model, unless it is kept, and files that were cut short."""
        if folder not in self._kept.values():
            for path in (folder / MODEL, *folder.glob("partial-*")):
                path.unlink(missing_ok=True)

    def consider(self, rows: Iterable[FrozenTrial]) -> None:
        """Compares what is kept with the best of the rows."""
        best = {row.user_attrs[SLOT] for row in best_rows(self._spec, rows, self._spec.keep_models)}
        for slot in sorted(self._kept.keys() - best):
            folder = self._kept.pop(slot)
            self._journal.model_displaced(folder)
            self.attempt_ended(folder)
        for slot in sorted(best - self._kept.keys() - self._elsewhere):
            self._keep(slot)

    def _keep(self, slot: int) -> None:
        attempt = self._ledger.latest_of(slot)
        folder = self._folder(slot, 0 if attempt is None else attempt.number)
        path = folder / MODEL
        if path.exists():
            self._journal.model_kept(folder, path, sha256_of(path))
            self._kept[slot] = folder
        else:
            self._elsewhere.add(slot)

    def _folder(self, slot: int, number: int) -> Path:
        return self._home.attempt(self._spec.name, slot, number)
