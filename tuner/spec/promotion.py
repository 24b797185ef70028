"""What a study file says of promotion: the registered model and its gates."""

from pydantic import Field

from tuner.spec.names import RegistryName
from tuner.spec.section import Real, Section


class Gates(Section):
    """What a candidate must reach to be promoted; a gate left out is not checked."""

    test_accuracy: Real | None = Field(default=None, ge=0, le=1)
    """Accuracy on the test set, at least."""
    train_test_gap: Real | None = Field(default=None, ge=0, le=1)
    """Training accuracy without dropout minus test accuracy, at most."""
    latency_p95_ms: Real | None = Field(default=None, gt=0)
    """Milliseconds that 95 of 100 calls with one image take, at most."""
    train_time_s: Real | None = Field(default=None, gt=0)
    """Seconds that the trial's training took, at most."""


class Promotion(Section):
    """The registered model that a champion becomes a version of, and what it takes."""

    model: RegistryName = Field(default_factory=str)
    """Name in the registry; left out, the study's name."""
    gates: Gates = Gates()
    """What a candidate must reach."""
