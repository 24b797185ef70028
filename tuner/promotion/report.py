"""What a promotion found and did, as data."""

from pydantic import Field

from tuner.promotion.gates import GateResult
from tuner.promotion.judging.comparison import Comparison
from tuner.promotion.judging.evidence import Evidence
from tuner.promotion.judging.reproduction import Reproduction
from tuner.spec.section import Frozen


class PromotionReport(Frozen):
    """What a promotion found and did; its JSON is what `tuner promote --json` prints."""

    promoted: bool = False
    model: str
    version: int | None = None
    alias: str | None = None
    run_id: str
    metrics: dict[str, float]
    gates: tuple[GateResult, ...]
    """Those on the test set are missing where another one failed before it was opened."""
    champion: Comparison | None = None
    """None where there was none, it is this very model, or the test set was not opened."""
    reigning: bool = False
    """Whether the version was the champion before."""
    replace: bool = False
    """Whether a better champion may be replaced too."""
    validation: Reproduction | None = None
    """None where the study splits off no validation rows."""
    evidence: Evidence | None = Field(default=None, exclude=True)
    """None where a gate failed before the test set was opened."""

    @property
    def passed(self) -> bool:
        """Whether every stated gate passed, and the champion is not better or is to go."""
        held = self.champion is None or self.champion.passed or self.replace
        return held and all(gate.passed for gate in self.gates)
