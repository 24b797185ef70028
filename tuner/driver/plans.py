"""Makes the plan that a trainer trains, from a slot and its parameters."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from tuner.code import digest
from tuner.datasets.store import DatasetInfo
from tuner.home import Home
from tuner.recovery.retention import latest_checkpoint
from tuner.search import points
from tuner.spec.search_space import ChoiceDomain, Scalar
from tuner.spec.study_spec import StudySpec
from tuner.training.plan import ModelPlan, Precision, TrialPlan
from tuner.training.timing import EpochTimes
from tuner.workers.messages import Described


def precision_of(spec: StudySpec) -> Precision:
    """The study's precision, or float32 while `auto` is undecided."""
    return "float32" if spec.precision == "auto" else spec.precision


@dataclass(frozen=True)
class Planner:
    """What all plans of a study share."""

    home: Home
    spec: StudySpec
    code_path: tuple[Path, ...]
    dataset: DatasetInfo
    described: Described
    precision: Precision
    """The precision that trials train in."""
    measured: EpochTimes | None = None
    """The measurement that chose it; None where the study file states the precision."""

    @property
    def code(self) -> str:
        """The digest of the user's code; empty where the study has none."""
        return digest(self.described.code)

    def plan(self, slot: int, attempt: int, params: dict[str, Scalar]) -> TrialPlan:
        """The plan of one attempt.

        Args:
            slot: the slot.
            attempt: the attempt's number.
            params: every parameter of the trial.
        """
        spec = self.spec
        return TrialPlan(
            study=spec.name,
            slot=slot,
            attempt=attempt,
            params=params,
            model=ModelPlan(
                name=spec.model,
                code_path=self.code_path,
                code=self.described.model_code,
            ),
            dataset=self.dataset.train,
            classes=self.dataset.classes,
            validation=spec.validation,
            split_seed=points.split_seed(spec, slot),
            seed=points.trial_seed(spec, slot),
            epochs=spec.epochs,
            objective=spec.objective,
            precision=self.precision,
            pixels=spec.pixels,
            counts="best" if spec.race is None else "last",
            records_errors=spec.race is not None,
            folder=self.home.attempt(spec.name, slot, attempt),
            resumes=latest_checkpoint(self.home, spec.name, slot, before=attempt),
        )

    def typical(self) -> Iterator[TrialPlan]:
        """Yields plans to measure an epoch on, one for each distinct network.

        First come the points that the study file states, with every other parameter at its lowest
        or first value. Then come the points with all parameters at their lowest and highest.
        """
        lowest, highest = (self._corner(end) for end in (0, -1))
        stated = points.stated_points(self.spec)
        seen: list[dict[str, Scalar | None]] = []
        for point in (*({**lowest, **each} for each in stated), lowest, highest):
            params = {**point, **self.spec.fixed}
            network = {name: params.get(name) for name in self.described.hyperparameters}
            if network not in seen:
                seen.append(network)
                yield self.plan(0, 0, params)

    def _corner(self, end: Literal[0, -1]) -> dict[str, Scalar]:
        """The point with every parameter at its first (0) or last (-1) value."""
        return {
            name: (
                domain.choices[end]
                if isinstance(domain, ChoiceDomain)
                else (domain.low, domain.last)[end]
            )
            for name, domain in self.spec.domains.items()
        }
