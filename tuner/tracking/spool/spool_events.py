"""What a driver writes into a spool, and a shipper turns into MLflow runs.

Every event carries its own time (`at_ms`, Unix milliseconds), frozen when it happened, so
that shipping it twice adds nothing.
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
    """A driver opened the study; it becomes the parent run, or goes on with it."""

    kind: Literal["study-opened"] = "study-opened"
    at_ms: int
    study: str
    study_file: str
    """The study file as it was validated, YAML."""
    params: dict[str, str]
    tags: dict[str, str]
    uncommitted: str = ""
    """The difference between the working tree and the git revision, empty when clean."""
    code: dict[str, str] = Field(default_factory=dict)
    """The user's code, every version of it: path to text."""

    def again_at(self, at_ms: int) -> Self:
        """The same, for a spool that is begun anew."""
        return self.model_copy(update={"at_ms": at_ms})


class TrialSummary(Frozen):
    """One row of the study's summary table."""

    number: int
    slot: int
    state: str
    params: dict[str, Scalar]
    value: float | None
    epochs: int
    duration_s: float | None
    run_id: str | None
    uid: str | None = None
    """Of its newest attempt, where that is known: what the run is found by."""
    code: str = ""
    """The digest of the user's code that trained it, once it has ended; empty where it has none."""
    unpromotable: str = ""
    """Why a completed trial cannot be promoted; empty where it can, as far as is known."""
    remarks: tuple[str, ...] = ()
    """Why it trained in another way than most."""


class StudyProgressed(Frozen):
    """The study got on. What one of these does not tell stands in those before it."""

    kind: Literal["study-progressed"] = "study-progressed"
    at_ms: int
    metric: str
    direction: Literal["maximize", "minimize"]
    seeds: int = 1
    """How many trainings each point has."""
    trials: tuple[TrialSummary, ...]
    """Those that have changed; a trial replaces the one with its number."""
    importance: dict[str, float]
    """How much each parameter that varied matters, as shares of 1; empty if not asked."""
    metrics: dict[str, float]
    """Counts by state, the best value and the like, logged on the parent run."""


class StudyClosed(Frozen):
    """The driver left the study; `complete` says whether every slot reached an end."""

    kind: Literal["study-closed"] = "study-closed"
    at_ms: int
    complete: bool
    failed: bool = False
    """Every trial failed."""


class AttemptStarted(Frozen):
    """One attempt at one trial began; it becomes a child run."""

    kind: Literal["attempt-started"] = "attempt-started"
    at_ms: int
    uid: str
    """Unique among all attempts of all studies and machines."""
    number: int
    """Optuna's number of the trial."""
    plan: TrialPlan
    dataset: DatasetInfo
    trainer: TrainerInfo
    tags: dict[str, str]
    source: dict[str, str] = Field(default_factory=dict)
    """The user's own functions: file name to content."""
    predecessor: str | None = None
    """The uid of the attempt before this one."""
    again: bool = False
    """Whether the attempt's spool was lost and is begun anew."""

    def again_at(self, at_ms: int) -> Self:
        """The same, for a spool that is begun anew."""
        return self.model_copy(update={"at_ms": at_ms, "again": True})


class ModelKept(Frozen):
    """The attempt's model is among the best so far and goes to the run's artifacts."""

    kind: Literal["model-kept"] = "model-kept"
    at_ms: int
    path: Path
    sha256: str


class ModelDisplaced(Frozen):
    """Better models came; this one leaves the run's artifacts."""

    kind: Literal["model-displaced"] = "model-displaced"
    at_ms: int


class AttemptEnded(Frozen):
    """The attempt is over. `result` is None when its trainer never said one."""

    kind: Literal["attempt-ended"] = "attempt-ended"
    at_ms: int
    outcome: Outcome
    reason: Text = ""
    result: TrialResult | None
    log: Path | None
    """The attempt's captured standard output and error."""


DRIVER_DIED = "its driver died"
"""Why an attempt was handed back by another than its own driver."""


class AttemptAbandoned(Frozen):
    """A driver of another home died over the attempt, or ended it, and the one here saw it.

    Its own spool lies on its own machine, which may never come back; this one closes its run.
    """

    kind: Literal["attempt-abandoned"] = "attempt-abandoned"
    at_ms: int
    uid: str
    outcome: Outcome
    reason: Text = DRIVER_DIED
    """Empty where it is for another spool to say."""


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
