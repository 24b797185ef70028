"""The events that a driver writes into a spool and a shipper turns into MLflow runs.

Every event has the time at which it happened (`at_ms`, Unix milliseconds), so that shipping it
twice adds nothing.
"""

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, TypeAdapter

from tuner.datasets.store import DatasetInfo
from tuner.spec.search_space import Scalar
from tuner.spec.section import Frozen, Text
from tuner.training.plan import (
    EpochEnded,
    Outcome,
    SystemSampled,
    TrainerInfo,
    TrialPlan,
    TrialResult,
)


class StudyOpened(Frozen):
    """A driver opened the study. Opens the parent run, or continues it."""

    kind: Literal["study-opened"] = "study-opened"
    at_ms: int
    study: str
    study_file: str
    """The validated study file, as YAML."""
    params: dict[str, str]
    tags: dict[str, str]
    uncommitted: str = ""
    """The difference between the working tree and the git revision, empty when clean."""
    code: dict[str, str] = Field(default_factory=dict)
    """Every version of the user's code: text by path."""

    def again_at(self, at_ms: int) -> Self:
        """The same event for a new spool, with another time."""
        return self.model_copy(update={"at_ms": at_ms})


class TrialSummary(Frozen):
    """One row of the study's summary table."""

    number: int
    slot: int
    point: int | None = None
    """The number of its point; None in spools of earlier versions."""
    state: str
    params: dict[str, Scalar]
    value: float | None
    epochs: int
    duration_s: float | None
    run_id: str | None
    uid: str | None = None
    """The newest attempt's uid, if known, by which the run is found."""
    code: str = ""
    """The digest of the user's code that trained it, once it has ended; empty without code."""
    unpromotable: str = ""
    """Why a completed trial cannot be promoted; empty if nothing is known against it."""
    remarks: tuple[str, ...] = ()
    """Remarks on how it trained, for example uncompiled."""


class MissedImage(Frozen):
    """A training image that trainings agree to be another class than its label says.

    None of them was trained on it.
    """

    row: int
    """Its number among the training images, from 0."""
    file: str = ""
    """Its file, if the data set names one."""
    label: str
    predicted: str
    """The class that most of the trainings gave it."""
    agreeing: int
    """How many trainings gave it this class; the others gave it other wrong ones."""
    trainings: int
    """How many trainings were validated on it."""
    probability: float
    """The mean of the probabilities that they gave their classes."""


class Missed(Frozen):
    """The missed images of a confirmation."""

    images: tuple[MissedImage, ...]
    """Those that most trainings agree on first, then the most probable ones."""
    folder: Path
    """The folder with the training images."""


ClaimVerdict = Literal["confirmed", "contradicted", "equivalent", "undecided"]
"""What is known of a claim; equivalent: its points differ by less than the margin."""


class ClaimSummary(Frozen):
    """What a race has found about a claim. Differences are in the unit of the metric."""

    name: str
    metric: str
    margin: float
    better: dict[str, Scalar]
    """The point that is said to be better, as the study states it."""
    than: dict[str, Scalar]
    better_mean: float | None
    """The mean over all trainings of the point; None before the first one."""
    than_mean: float | None
    verdict: ClaimVerdict
    difference: float | None = None
    """The mean of the paired differences, better minus than; None before the comparison."""
    low: float | None = None
    """The lower limit of its interval, which has a confidence of `1 - level`."""
    high: float | None = None
    level: float | None = None
    """The level that the comparison is held to, once all looks and comparisons are paid for."""
    seeds: int = 0
    """The number of pairs."""
    more_seeds: int | None = None
    """How many more seeds would probably decide, if it is undecided and fewer than 10,000 do."""


class StudyProgressed(Frozen):
    """The study made progress. What this event leaves out is in earlier ones."""

    kind: Literal["study-progressed"] = "study-progressed"
    at_ms: int
    metric: str
    direction: Literal["maximize", "minimize"]
    seeds: int = 1
    """The number of trainings of each point."""
    trials: tuple[TrialSummary, ...]
    """The trials that have changed. Each replaces an earlier summary with its number."""
    importance: dict[str, float]
    """The importance of each parameter, as shares of 1; empty if it was not assessed."""
    claims: tuple[ClaimSummary, ...] = ()
    """What the race has found about its claims so far."""
    metrics: dict[str, float]
    """Counts by state, and the best point's mean, spread and n, for the parent run."""
    missed: Missed | None = None
    """Of a confirmation that is over; None if nothing is new."""
    verdict: tuple[str, ...] = ()
    """What a confirmation has found, in words; empty if nothing is new."""


class StudyClosed(Frozen):
    """The last driver left the study; `complete` says whether every trial had ended."""

    kind: Literal["study-closed"] = "study-closed"
    at_ms: int
    complete: bool
    failed: bool = False
    """Every trial failed."""


class AttemptStarted(Frozen):
    """One attempt at one trial began. Opens a child run."""

    kind: Literal["attempt-started"] = "attempt-started"
    at_ms: int
    uid: str
    """Unique among all attempts of all studies and machines."""
    number: int
    """Optuna's number of the trial."""
    name: str = ""
    """What the attempt's training is called; empty in spools of earlier versions."""
    plan: TrialPlan
    dataset: DatasetInfo
    trainer: TrainerInfo
    tags: dict[str, str]
    source: dict[str, str] = Field(default_factory=dict)
    """The source of the user's functions, by file name."""
    predecessor: str | None = None
    """The uid of the attempt before this one."""
    again: bool = False
    """Whether the attempt's first spool was lost."""

    def again_at(self, at_ms: int) -> Self:
        """The same event for a new spool, with another time."""
        return self.model_copy(update={"at_ms": at_ms, "again": True})


class ModelKept(Frozen):
    """The attempt's model is among the best so far, and becomes an artifact of the run."""

    kind: Literal["model-kept"] = "model-kept"
    at_ms: int
    path: Path
    sha256: str


class ModelDisplaced(Frozen):
    """Better models displaced the attempt's model, which is removed from the run."""

    kind: Literal["model-displaced"] = "model-displaced"
    at_ms: int


class AttemptEnded(Frozen):
    """The attempt ended. `result` is None if its trainer sent none."""

    kind: Literal["attempt-ended"] = "attempt-ended"
    at_ms: int
    outcome: Outcome
    reason: Text = ""
    result: TrialResult | None
    log: Path | None
    """The attempt's captured standard output and error."""


DRIVER_DIED = "its driver died"
"""The reason when another driver handed the attempt back."""


class AttemptAbandoned(Frozen):
    """The attempt of a driver of another home ended or was taken over, as a driver here saw.

    Its own spool is on its machine, which may never come back. This event closes its run.
    """

    kind: Literal["attempt-abandoned"] = "attempt-abandoned"
    at_ms: int
    uid: str
    outcome: Outcome
    reason: Text = DRIVER_DIED
    """Empty if another spool has the reason."""


Event = Annotated[
    StudyOpened
    | StudyProgressed
    | StudyClosed
    | AttemptStarted
    | EpochEnded
    | SystemSampled
    | ModelKept
    | ModelDisplaced
    | AttemptEnded
    | AttemptAbandoned,
    Field(discriminator="kind"),
]

event_adapter: TypeAdapter[Event] = TypeAdapter(Event)
