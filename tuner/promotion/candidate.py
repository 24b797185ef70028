"""The trial that stands for promotion, as data."""

from tuner.datasets.store import DatasetInfo
from tuner.search.ranking import PointSummary
from tuner.spec.recipe import Backend, Pixels
from tuner.spec.search_space import Scalar
from tuner.spec.section import Frozen
from tuner.spec.study_spec import Promotion
from tuner.training.plan import ModelPlan, Precision


class Validated(Frozen):
    """What a trial's study recorded of it on its validation rows, and which rows those are."""

    rows: int
    split_seed: int
    loss: float
    """Mean cross-entropy at the best epoch, in nats."""
    accuracy: float


class Candidate(Frozen):
    """One completed trial and everything that judging and registering it takes."""

    study: str
    study_uid: str
    """What tells the study from others of its name, in other databases or before it."""
    number: int
    """Optuna's number of the trial."""
    run_id: str
    """Its MLflow run, whose artifacts hold `model/model.keras`."""
    params: dict[str, Scalar]
    model: ModelPlan
    """The function that built the network; its module knows the classes in the model file."""
    backend: Backend
    """What its study trained on."""
    pixels: Pixels = "unit"
    """The range of the pixels that its network takes."""
    precision: Precision = "float32"
    """The arithmetic that its network computes in."""
    metric: str
    value: float
    """Of this trial."""
    point: PointSummary | None = None
    """What all trainings of its point come to, if it stands for one."""
    validated: Validated | None
    """None where the study splits off no validation rows."""
    model_sha256: str
    train_time_s: float
    dataset: DatasetInfo
    promotion: Promotion
