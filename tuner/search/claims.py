"""What a race has found about the claims of its study."""

import math
from collections.abc import Sequence
from statistics import fmean
from typing import Literal

from optuna.trial import FrozenTrial

from tuner.search.points import claimed_points, point_of, searched
from tuner.search.race import Comparison, RaceState, Verdict, more_blocks
from tuner.search.race_trials import Values, race_state, values_of
from tuner.spec.objective import direction_of
from tuner.spec.search_space import Scalar
from tuner.spec.study_spec import Claim, StudySpec
from tuner.tracking.spool.spool_events import ClaimSummary, ClaimVerdict

_VERDICTS: dict[Verdict, ClaimVerdict] = {
    Verdict.BETTER: "confirmed",
    Verdict.WORSE: "contradicted",
    Verdict.EQUIVALENT: "equivalent",
    Verdict.UNDECIDED: "undecided",
}


def claims_of(spec: StudySpec, rows: Sequence[FrozenTrial]) -> tuple[ClaimSummary, ...]:
    """Returns what the trials of a race say about each claim; empty for a study that is no race."""
    if spec.race is None or not spec.claims:
        return ()
    values = values_of(spec, rows)
    state, points = race_state(spec, values), claimed_points(spec)
    pairs = zip(spec.claims, points, strict=True)
    return tuple(_summary(spec, claim, pair, values, state) for claim, pair in pairs)


def _summary(
    spec: StudySpec,
    claim: Claim,
    points: tuple[dict[str, Scalar], dict[str, Scalar]],
    values: Values,
    state: RaceState,
) -> ClaimSummary:
    assert spec.race is not None
    metric, rules = claim.metric or spec.objective.metric, spec.race.rules
    rules = rules.model_copy(update={"margin": claim.margin or rules.margin})
    finding = state.claims.get(claim.name)
    better, than = (_mean(spec, point, metric, values) for point in points)
    undecided = finding is not None and finding.verdict is Verdict.UNDECIDED
    return ClaimSummary(
        name=claim.name,
        metric=metric,
        margin=rules.margin,
        better=dict(claim.better),
        than=dict(claim.than),
        better_mean=better,
        than_mean=than,
        verdict="undecided" if finding is None else _VERDICTS[finding.verdict],
        more_seeds=more_blocks(finding, rules) if finding is not None and undecided else None,
        **_figures(finding, _sign(metric)),
    )


def _figures(finding: Comparison | None, sign: Literal[1, -1]) -> dict[str, float]:
    """The numbers of a comparison, in the metric's own unit."""
    if finding is None:
        return {}
    low, high = sorted((sign * finding.interval.low, sign * finding.interval.high))
    return {
        "difference": sign * finding.difference.mean,
        "low": low,
        "high": high,
        "level": finding.level,
        "seeds": finding.difference.pairs,
    }


def _mean(spec: StudySpec, params: dict[str, Scalar], metric: str, values: Values) -> float | None:
    """The mean of a point's trainings by a metric; None before the first one."""
    point = [searched(spec, dict(each)) for each in spec.baseline].index(params)
    own = [reached for slot, reached in values.items() if point_of(spec, slot) == point]
    known = [each.get(metric, math.nan) for each in own if metric in each]
    return _sign(metric) * fmean(known) if known else None


def _sign(metric: str) -> Literal[1, -1]:
    return 1 if direction_of(metric) == "maximize" else -1
