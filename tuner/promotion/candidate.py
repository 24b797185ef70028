"""The trial to be promoted, as data."""

from tuner.datasets.store import DatasetInfo
from tuner.search.race import Verdict
from tuner.search.ranking import PointSummary
from tuner.spec.recipe import Backend, Pixels
from tuner.spec.search_space import Scalar
from tuner.spec.section import Frozen
from tuner.spec.study_spec import Promotion
from tuner.tracking.spool.spool_events import MissedImage
from tuner.training.plan import ModelPlan, Precision


class Validated(Frozen):
    """A trial's recorded validation loss and accuracy, and the rows that they were measured on."""

    rows: int
    split_seed: int
    loss: float
    """The mean cross-entropy at the best epoch, in nats."""
    accuracy: float


class Grounds(Frozen):
    """Why a training is the one to promote."""

    study: str
    """The study whose point it trains."""
    point: int
    """The point's number there."""
    confirmation: str | None = None
    """The name of the confirmation that chose the point; None if none did."""
    verdict: Verdict | None = None
    """How the point compares with the baseline; None if that was not compared."""
    mean: float | None = None
    """The mean objective of the trainings by which the point was chosen."""
    std: float | None = None
    """Their sample standard deviation (n - 1)."""
    seeds: int = 0
    """The number of these trainings."""
    refit: bool = False
    """Whether the point was trained again, on all rows of the training folder."""
    missed: tuple[MissedImage, ...] | None = None
    """The images that every good training of the confirmation missed; None if not known."""
    lines: tuple[str, ...]
    """The verdict in words, or why there is none."""


class Candidate(Frozen):
    """One completed trial, with everything needed to judge and register it."""

    study: str
    study_uid: str
    """The id that distinguishes the study from others of its name."""
    number: int
    """Optuna's number of the trial."""
    run_id: str
    """The id of its MLflow run, whose artifacts have `model/model.keras`."""
    params: dict[str, Scalar]
    model: ModelPlan
    """The function that built the network; its module defines the classes in the model file."""
    backend: Backend
    """The backend of its study."""
    pixels: Pixels = "unit"
    """The range of its network's input pixels."""
    precision: Precision = "float32"
    """The precision that its network computes in."""
    metric: str
    value: float
    """The value of the metric for this trial."""
    point: PointSummary | None = None
    """The summary of its point's trainings, if the trial represents one."""
    validated: Validated | None
    """None if the study has no validation rows."""
    model_sha256: str
    train_time_s: float
    dataset: DatasetInfo
    promotion: Promotion
    grounds: Grounds | None = None
    """Why it is the one to promote; None where it is only evaluated."""
