"""A recorded study, without TensorFlow: spools as a driver writes them."""

from pathlib import Path
from typing import Any

from tuner.datasets.store import DatasetInfo
from tuner.spec.objective import Objective
from tuner.tracking.spool.spool import SpoolWriter, attempt_folder, parent_folder
from tuner.tracking.spool.spool_events import (
    AttemptEnded,
    AttemptStarted,
    Event,
    ModelDisplaced,
    ModelKept,
    StudyClosed,
    StudyOpened,
    StudyProgressed,
    TrialSummary,
)
from tuner.training.plan import (
    ClassScores,
    EpochEnded,
    EpochReport,
    Evaluation,
    KeptModel,
    ModelPlan,
    Outcome,
    SystemSample,
    SystemSampled,
    Timings,
    TrainerInfo,
    TrialError,
    TrialPlan,
    TrialResult,
)

START_MS = 1_700_000_000_000


class Recorder:
    """Writes a study's spools as a driver would; times are made up and always the same."""

    def __init__(self, folder: Path, study: str = "sweep", *, files: bool = True) -> None:
        self.folder = folder
        self.study = study
        self.study_uid = f"{study}@test"
        self.files = folder.parent / f"{folder.name}-files"
        if files:
            self.files.mkdir(parents=True, exist_ok=True)

    def parent(self, *events: Event) -> None:
        with SpoolWriter(parent_folder(self.folder)) as spool:
            for event in events:
                spool.append(event)

    def attempt(self, slot: int, attempt: int, *events: Event) -> Path:
        with SpoolWriter(attempt_folder(self.folder, slot, attempt)) as spool:
            for event in events:
                spool.append(event)
        return attempt_folder(self.folder, slot, attempt)

    def opened(self, **params: str) -> StudyOpened:
        return StudyOpened(
            at_ms=START_MS,
            study=self.study,
            study_file="name: sweep\n",
            params=params or {"trials": "2"},
            tags={"tuner.study_uid": self.study_uid, "tuner.git_revision": "abc"},
            uncommitted="--- a\n+++ b\n",
        )

    def progressed(self, *trials: TrialSummary, at_ms: int = START_MS) -> StudyProgressed:
        return StudyProgressed(
            at_ms=at_ms,
            metric="val_accuracy",
            direction="maximize",
            trials=trials,
            importance={"learning_rate": 0.7, "dropout_rate": 0.3} if trials else {},
            metrics={"trials_completed": float(len(trials))},
        )

    def closed(self, complete: bool = True, failed: bool = False) -> StudyClosed:
        return StudyClosed(at_ms=START_MS + 99_000, complete=complete, failed=failed)

    def plan(self, slot: int, attempt: int = 0) -> TrialPlan:
        return TrialPlan(
            study=self.study,
            slot=slot,
            attempt=attempt,
            params={"learning_rate": 0.01, "dropout_rate": 0.4},
            model=ModelPlan(name="paper-cnn"),
            dataset=self.files,
            classes=("0", "1", "2"),
            validation=30,
            split_seed=5,
            seed=11 + slot,
            epochs=3,
            objective=Objective(),
            precision="float32",
            folder=self.files,
        )

    def started(self, slot: int, attempt: int = 0, **changes: Any) -> AttemptStarted:
        predecessor = self.uid(slot, attempt - 1) if attempt else None
        event = AttemptStarted(
            at_ms=START_MS + 1000 * slot,
            uid=self.uid(slot, attempt),
            number=slot,
            plan=self.plan(slot, attempt),
            dataset=dataset(self.files),
            trainer=TrainerInfo(
                host="box",
                pid=7,
                assigned="cpu",
                device="cpu",
                backend="numpy",
                versions={"keras": "3.15.1"},
            ),
            tags={"tuner.study_uid": self.study_uid},
            source={"mine.py": "def model(): ...\n"},
            predecessor=predecessor,
        )
        return event.model_copy(update=changes)

    def uid(self, slot: int, attempt: int = 0) -> str:
        return f"{self.study_uid}/{slot}-{attempt}"

    def epoch(self, number: int, value: float | None = None) -> EpochEnded:
        return EpochEnded(report=report(number, value))

    def sampled(self, ordinal: int) -> SystemSampled:
        values = {"cpu_utilization_percentage": 50.0 + ordinal}
        return SystemSampled(sample=SystemSample(at_ms=START_MS + ordinal, values=values))

    def kept(self, content: bytes = b"weights") -> ModelKept:
        path = self.files / "best.keras"
        path.write_bytes(content)
        return ModelKept(at_ms=START_MS, path=path, sha256="5a" * 32)

    def displaced(self) -> ModelDisplaced:
        return ModelDisplaced(at_ms=START_MS + 50_000)

    def ended(
        self, outcome: str = Outcome.COMPLETED, epochs: int = 3, reason: str = ""
    ) -> AttemptEnded:
        ending = Outcome(outcome)
        log = self.files / "output.log"
        log.write_text("trained\n")
        result = None if ending.hands_back else trial_result(ending, epochs, self.files)
        return AttemptEnded(
            at_ms=START_MS + 60_000, outcome=ending, reason=reason, result=result, log=log
        )

    def trial(self, slot: int, outcome: str = Outcome.COMPLETED, epochs: int = 3) -> None:
        self.attempt(
            slot,
            0,
            self.started(slot),
            *(self.epoch(number) for number in range(1, epochs + 1)),
            self.sampled(0),
            self.kept(),
            self.ended(outcome, epochs),
        )

    def whole_study(self) -> None:
        self.parent(self.opened(), self.progressed())
        self.trial(0)
        self.trial(1, "pruned", epochs=2)
        self.parent(self.progressed(summary(0), summary(1, "pruned")), self.closed())


def dataset(folder: Path) -> DatasetInfo:
    return DatasetInfo(
        name="digits",
        digest="d1" * 32,
        source="scikit-learn",
        folder=folder,
        image_shape=(8, 8, 1),
        classes=("0", "1", "2"),
        train_count=100,
        test_count=20,
        background="dark",
        content_fraction=0.9,
    )


def report(number: int, value: float | None = None) -> EpochReport:
    accuracy = 0.9 + number / 100 if value is None else value
    metrics = {"loss": 1 / number, "accuracy": accuracy, "val_loss": 1.1 / number}
    return EpochReport(
        epoch=number,
        metrics={**metrics, "val_accuracy": accuracy - 0.01},
        train_s=2.0,
        validation_s=0.5,
        finished_ms=START_MS + 1000 * number,
    )


def evaluation(*labels: str) -> Evaluation:
    names = labels or ("0", "1", "2")
    size = len(names)
    confusion = tuple(
        tuple(9 if row == column else (row + column) % 2 for column in range(size))
        for row in range(size)
    )
    scores = [
        ClassScores(label=name, precision=0.9, recall=0.8, f1=0.85, support=10) for name in names
    ]
    macro = ClassScores(label="macro", precision=0.91, recall=0.81, f1=0.86, support=10 * size)
    return Evaluation(
        accuracy=0.92, loss=0.3, confusion=confusion, classes=tuple(scores), macro=macro
    )


def trial_result(state: Outcome, epochs: int, folder: Path) -> TrialResult:
    failed = state is Outcome.FAILED
    return TrialResult(
        state=state,
        epochs=tuple(report(number) for number in range(1, epochs + 1)),
        best_epoch=epochs or None,
        evaluation=evaluation() if epochs else None,
        model=KeptModel(path=folder / "best.keras", sha256="5a" * 32, parameters=225034),
        timings=Timings(build_s=0.1, train_s=6.0, validation_s=1.5, total_s=7.6),
        peak_memory_mb=812.0,
        error=TrialError(type="ValueError", message="no", traceback="Traceback...\n")
        if failed
        else None,
    )


def summary(number: int, state: str = "completed", value: float | None = 0.92) -> TrialSummary:
    return TrialSummary(
        number=number,
        slot=number,
        state=state,
        params={"learning_rate": 0.01, "dropout_rate": 0.4},
        value=value,
        epochs=3,
        duration_s=7.6,
        run_id=None,
    )
