"""What a pool and a trainer say to each other: one JSON object a line."""

from typing import Annotated, Literal

from pydantic import Field, TypeAdapter

from tuner.spec.search_space import Scalar
from tuner.spec.section import Frozen, Text
from tuner.training.plan import (
    EpochReport,
    ModelPlan,
    Precision,
    SystemSample,
    TrainerInfo,
    TrialPlan,
    TrialResult,
)
from tuner.training.timing import EpochTimes

OUTPUT_LOG = "output.log"
"""What a trial printed, in its plan's folder."""


class Describe(Frozen):
    """Asks what the model function takes, and for the source of the user's functions."""

    kind: Literal["describe"] = "describe"
    model: ModelPlan
    dataset: str


class Probe(Frozen):
    """Asks how long an epoch of the plan takes here, in each precision the device is made for.

    Where it is made for none of them, all are measured.
    """

    kind: Literal["probe"] = "probe"
    plan: TrialPlan
    precisions: tuple[Precision, ...]
    known: dict[str, Precision] = Field(default_factory=dict)
    """The precision to measure alone for networks of an architecture."""


class Train(Frozen):
    """Asks for a trial to be trained."""

    kind: Literal["train"] = "train"
    plan: TrialPlan


class Prune(Frozen):
    """Asks the trial in training to stop: at once between two epochs, else after this one."""

    kind: Literal["prune"] = "prune"
    slot: int
    attempt: int


class Proceed(Frozen):
    """Says that the trial in training need not wait after this epoch."""

    kind: Literal["proceed"] = "proceed"
    slot: int
    attempt: int
    epoch: int


Request = Annotated[Describe | Probe | Train | Prune | Proceed, Field(discriminator="kind")]
request_adapter: TypeAdapter[Request] = TypeAdapter(Request)


class Ready(Frozen):
    """The trainer has loaded its engine and waits."""

    kind: Literal["ready"] = "ready"
    info: TrainerInfo


class Described(Frozen):
    """The model function's own parameters with their defaults, and the user's code."""

    kind: Literal["described"] = "described"
    hyperparameters: dict[str, Scalar | None]
    source: dict[str, str]
    """The files of the user's own functions: path to text."""
    code: dict[str, str] = Field(default_factory=dict)
    """These and all that they import from the study's folders."""
    model_code: str = ""
    """The digest of what the model's function is made of."""


class Probed(Frozen):
    """How long an epoch takes."""

    kind: Literal["probed"] = "probed"
    times: EpochTimes


class EpochReported(Frozen):
    """The trial in training finished an epoch."""

    kind: Literal["epoch"] = "epoch"
    report: EpochReport


class Sampled(Frozen):
    """The trainer's machine was measured while it trained."""

    kind: Literal["sampled"] = "sampled"
    sample: SystemSample


class Ended(Frozen):
    """The trial in training reached its end."""

    kind: Literal["ended"] = "ended"
    result: TrialResult


class Refused(Frozen):
    """A description or a probe was not possible, or a trial's code is not the study's."""

    kind: Literal["refused"] = "refused"
    error: Literal["UsageError", "DataError", "ModelError"]
    message: Text
    traceback: Text


Answer = Annotated[
    Ready | Described | Probed | EpochReported | Sampled | Ended | Refused,
    Field(discriminator="kind"),
]
answer_adapter: TypeAdapter[Answer] = TypeAdapter(Answer)
