"""Which trials' models go to MLflow: those of the best completed trials so far."""

from collections.abc import Iterable
from pathlib import Path

from optuna.trial import FrozenTrial

from tuner.home import Home
from tuner.spec.study import StudySpec
from tuner.study.journal import Journal
from tuner.study.ledger import Ledger
from tuner.study.summary import best_rows
from tuner.study.trials import SLOT
from tuner.training.checksum import sha256_of


class BestModels:
    """Keeps the models of the `keep_models` best trials, and lets go of the ones displaced.

    What is kept is read from the spools once, so that nothing is forgotten when a driver
    dies. A model that lies on another machine is that machine's driver's to keep.
    """

    def __init__(self, home: Home, spec: StudySpec, ledger: Ledger, journal: Journal) -> None:
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

    def consider(self, rows: Iterable[FrozenTrial]) -> None:
        """Compares what is kept with the best of the rows."""
        best = {row.user_attrs[SLOT] for row in best_rows(self._spec, rows, self._spec.keep_models)}
        for slot in sorted(self._kept.keys() - best):
            self._journal.model_displaced(self._kept.pop(slot))
        for slot in sorted(best - self._kept.keys() - self._elsewhere):
            self._keep(slot)

    def _keep(self, slot: int) -> None:
        attempt = self._ledger.latest_of(slot)
        folder = self._folder(slot, 0 if attempt is None else attempt.number)
        path = folder / "model.keras"
        if path.exists():
            self._journal.model_kept(folder, path, sha256_of(path))
            self._kept[slot] = folder
        else:
            self._elsewhere.add(slot)

    def _folder(self, slot: int, number: int) -> Path:
        return self._home.attempt(self._spec.name, slot, number)
