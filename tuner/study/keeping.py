"""Which trials' models go to MLflow: those of the best completed trials so far."""

from pathlib import Path

from tuner.home import Home
from tuner.spec.study import StudySpec
from tuner.study.journal import Journal
from tuner.study.ledger import Attempt, Ledger
from tuner.study.summary import StudySummary, ranked
from tuner.training.checksum import sha256_of


class BestModels:
    """Keeps the models of the `keep_models` best trials, and lets go of the ones displaced.

    What is kept is read from the spools, so that nothing is forgotten when a driver dies. A
    model that lies on another machine is that machine's driver's to keep.
    """

    def __init__(self, home: Home, spec: StudySpec, ledger: Ledger, journal: Journal) -> None:
        self._home = home
        self._spec = spec
        self._ledger = ledger
        self._journal = journal

    def consider(self, summary: StudySummary) -> None:
        """Compares what is kept with what the summary says is best."""
        best = {row.slot for row in ranked(self._spec, summary.trials)[: self._spec.keep_models]}
        for slot, attempt in self._ledger.latest().items():
            folder = self._folder(attempt)
            kept = self._journal.keeps_model(folder)
            if kept and slot not in best:
                self._journal.model_displaced(folder)
            elif slot in best and not kept:
                self._keep(folder)

    def _keep(self, folder: Path) -> None:
        path = folder / "model.keras"
        if path.exists():
            self._journal.model_kept(folder, path, sha256_of(path))

    def _folder(self, attempt: Attempt) -> Path:
        return self._home.attempt(self._spec.name, attempt.slot, attempt.number)
