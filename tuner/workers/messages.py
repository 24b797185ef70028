"""The messages between a pool and a trainer: one JSON object a line."""

from typing import Annotated, Literal

from pydantic import Field, TypeAdapter

from tuner.children import Refused
from tuner.spec.search_space import Scalar
from tuner.spec.section import Frozen
from tuner.training.plan import (
    EpochEnded,
    ModelPlan,
    Precision,
    SystemSampled,
    TrainerInfo,
    TrialPlan,
    TrialResult,
)
from tuner.training.timing import EpochTimes

OUTPUT_LOG = "output.log"
"""The name of the file with a trial's printed output, in its plan's folder."""


class Describe(Frozen):
    """Asks for the model function's parameters and for the source of the user's functions."""

    kind: Literal["describe"] = "describe"
    model: ModelPlan
    dataset: str


class Probe(Frozen):
    """Asks how long an epoch of the plan takes, in each precision that is native to the device.

    If none of them is, all are measured.
    """

    kind: Literal["probe"] = "probe"
    plan: TrialPlan
    precisions: tuple[Precision, ...]
    known: dict[str, Precision] = Field(default_factory=dict)
    """For networks of an architecture, the only precision to measure."""


class Train(Frozen):
    """Asks the trainer to train a plan."""

    kind: Literal["train"] = "train"
    plan: TrialPlan


class Prune(Frozen):
    """Asks the trial to stop: at once between two epochs, else after the current one."""

    kind: Literal["prune"] = "prune"
    slot: int
    attempt: int


class Proceed(Frozen):
    """Tells the trial in training to go on after this epoch without waiting longer."""

    kind: Literal["proceed"] = "proceed"
    slot: int
    attempt: int
    epoch: int


Request = Annotated[Describe | Probe | Train | Prune | Proceed, Field(discriminator="kind")]
request_adapter: TypeAdapter[Request] = TypeAdapter(Request)


class Ready(Frozen):
    """The trainer has loaded its engine and waits for requests."""

    kind: Literal["ready"] = "ready"
    info: TrainerInfo


class Described(Frozen):
    """The model function's own parameters with their defaults, and the user's code."""

    kind: Literal["described"] = "described"
    hyperparameters: dict[str, Scalar | None]
    source: dict[str, str]
    """The files of the user's own functions: path to text."""
    code: dict[str, str] = Field(default_factory=dict)
    """These files and all that they import from the study's folders."""
    model_code: str = ""
    """The digest of the code of the model function."""


class Probed(Frozen):
    """The measured time of an epoch."""

    kind: Literal["probed"] = "probed"
    times: EpochTimes


class Ended(Frozen):
    """The trial in training has ended."""

    kind: Literal["ended"] = "ended"
    result: TrialResult


Answer = Annotated[
    Ready | Described | Probed | EpochEnded | SystemSampled | Ended | Refused,
    Field(discriminator="kind"),
]
"""`Refused`: a description or a measurement failed, or a trial's code is not that of the study."""
answer_adapter: TypeAdapter[Answer] = TypeAdapter(Answer)
