"""The report of a promotion, as data."""

from pydantic import Field

from tuner.promotion.candidate import Grounds
from tuner.promotion.gates import GateResult
from tuner.promotion.judging.comparison import ChampionComparison
from tuner.promotion.judging.evidence import Evidence
from tuner.promotion.judging.reproduction import Reproduction
from tuner.promotion.judging.test_set_use import TestSetUse
from tuner.spec.section import Frozen


class PromotionReport(Frozen):
    """The findings and effects of a promotion; `tuner promote --json` prints its JSON."""

    promoted: bool = False
    model: str
    version: int | None = None
    alias: str | None = None
    run_id: str
    grounds: Grounds | None = None
    """Why this training is the one to promote."""
    metrics: dict[str, float]
    gates: tuple[GateResult, ...]
    """Without those on the test set if another gate failed before."""
    champion: ChampionComparison | None = None
    """None if there was no champion, it is this model, or the test set was not opened."""
    reigning: bool = False
    """Whether the alias named the version before."""
    replace: bool = False
    """Whether the gates against the champion are waived."""
    challenger: bool = False
    """Whether it is registered beside the champion, so that those gates do not count."""
    validation: Reproduction | None = None
    """What its file reproduces, or of a refit the file of the training that represented its point.

    None if there are no validation rows.
    """
    test_set_use: TestSetUse | None = None
    """Which access to the test set scored the candidate; None if the test set was not opened."""
    evidence: Evidence | None = Field(default=None, exclude=True)
    """None if a gate failed before the test set was opened."""

    @property
    def passed(self) -> bool:
        """Whether every gate passed that counts."""
        return not self.refusing

    @property
    def refusing(self) -> tuple[GateResult, ...]:
        """The gates for which the model is not registered."""
        return tuple(
            gate
            for gate in self.gates
            if not gate.passed and not (gate.against_champion and (self.replace or self.challenger))
        )
