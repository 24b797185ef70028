"""The noise of a study: how far two trainings of one point differ by their seeds alone."""

from tuner.search.ranking import rank, trainings
from tuner.spec.section import Frozen
from tuner.statistics import pooled_std, repeatability_limit
from tuner.study.confirmation.race_study import find_confirmation
from tuner.study.study import Study


class Spread(Frozen):
    """How far the objective of trainings of one point spreads."""

    study: str
    """The study or confirmation whose trainings show it."""
    std: float
    """The standard deviation within points, over all points with several trainings."""
    degrees: int
    """Its degrees of freedom: the number of these trainings less the number of points."""
    limit: float
    """The difference that two of them exceed in 5% of all cases."""

    def __str__(self) -> str:
        return (
            f"trainings with different seeds differ by at most {self.limit:.3g} in 95% of all "
            f"cases (standard deviation {self.std:.3g}, {self.degrees} degrees of freedom, "
            f"{self.study})"
        )


def spread_of(study: Study) -> Spread | None:
    """The spread of the study's points over their seeds, or else of those of its confirmation.

    A confirmation's spread also has what the choice of validation images adds. None if no point
    has two completed trainings: then it is not known.
    """
    confirmation = find_confirmation(study)
    own = _within_points(study)
    return own or (_within_points(confirmation) if confirmation is not None else None)


def _within_points(study: Study) -> Spread | None:
    ranked = rank(study.spec, trainings(study.trials.all()))
    pooled = pooled_std([each.value for each in point.trainings] for point in ranked)
    if pooled is None:
        return None
    std, degrees = pooled
    limit = repeatability_limit(std, degrees)
    return Spread(study=study.name, std=std, degrees=degrees, limit=limit)
