"""The confirmation of a study: a race of its best points and its baseline, and what it found.

A confirmation is a study of its own, named after the study, so everything that holds for a study
holds for it: it resumes, is retried, tracked, followed, and runs on every kind of worker.
"""

from collections.abc import Iterator, Mapping, Sequence
from statistics import fmean, median, median_high, stdev
from typing import Any, Literal

from optuna.trial import FrozenTrial, TrialState
from pydantic import ValidationError

from tuner.errors import RefusedError, SpecError
from tuner.search.points import confirmation_seed, point_of
from tuner.search.race import (
    FIRST_BLOCKS,
    BaselineComparison,
    Verdict,
    chosen_point,
    more_blocks,
    race_state,
    values_of,
)
from tuner.search.ranking import rank, trainings
from tuner.search.trials import stored_result
from tuner.spec.search_space import Scalar
from tuner.spec.section import STORED, Frozen, problems_in
from tuner.spec.study_spec import Confirmation, Race, StudySpec
from tuner.spec.text.writer import study_document
from tuner.storage.tables import SLOT
from tuner.study.code_folders import folders_here
from tuner.study.study import Study
from tuner.study.study_file import StudyFile
from tuner.study.summary import ended_summary
from tuner.tracking.spool.spool_events import TrialSummary
from tuner.words import count, seconds

_PATIENCE = "patience"
"""The parameter that ends a training early; a confirmation trains a fixed number of epochs."""


class Finalist(Frozen):
    """A point that races, as the study knows it."""

    point: int
    """Its number in the study."""
    params: dict[str, Scalar]
    """The searched parameters."""


class Forecast(Frozen):
    """What a confirmation costs, by the study's own trainings."""

    fewest: int
    """The number of trainings, if the race ends as early as it can."""
    most: int
    training_s: float
    """Seconds of one training."""

    def __str__(self) -> str:
        return (
            f"{self.fewest} to {count(self.most, 'training')} of about {seconds(self.training_s)} "
            "each, on one trainer"
        )


class ConfirmedPoint(Finalist):
    """What a confirmation found about one point."""

    mean: float | None
    """The mean objective of its trainings; None if none completed."""
    std: float | None
    """Their sample standard deviation (n - 1); None for less than two."""
    seeds: int
    """The number of its completed trainings."""
    remaining: bool
    """Whether it was not left out of the race."""
    finding: BaselineComparison | None
    """Its comparison with the baseline; None for the baseline, or before the first comparison."""


class ConfirmationReport(Frozen):
    """What the confirmation of a study has found so far."""

    study: str
    """The name of the confirmation."""
    metric: str
    direction: Literal["maximize", "minimize"]
    seeds: int
    """The number of blocks: of trainings of each point that was in the race to its end."""
    over: bool
    points: tuple[ConfirmedPoint, ...]
    """Those that remained first, then those that were left out; the best mean first."""
    baseline: int | None
    """The number of the baseline's point in the study."""
    chosen: int
    """The number of the point to promote."""
    raw_best: TrialSummary
    """The study's trial with the best single value, which was luck in part."""
    more_seeds: int | None = None
    """How many more seeds would probably decide, where nothing is and more would be trained."""
    training_s: float
    """Seconds of one training in the race; 0 before the first one has ended."""
    rules: Confirmation

    def of(self, point: int) -> ConfirmedPoint:
        """The point with this number in the study."""
        return next(each for each in self.points if each.point == point)

    @property
    def verdict(self) -> Verdict | None:
        """What is known of the difference from the baseline; None if nothing was compared."""
        finding = self.decisive.finding if self.decisive else None
        return finding.verdict if finding else None

    @property
    def decisive(self) -> ConfirmedPoint | None:
        """The point that the verdict is about: the chosen one, or the best but the baseline.

        None if the study has no baseline.
        """
        if self.baseline is None:
            return None
        if self.chosen != self.baseline:
            return self.of(self.chosen)
        return next((each for each in self.points if each.point != self.baseline), None)

    def lines(self) -> Iterator[str]:
        """Yields the verdict, in words and numbers."""
        chosen = self.of(self.chosen)
        if not self.over:
            yield f"the race of {self.study} is not over: {count(self.seeds, 'seed')} so far"
        elif self.baseline is None:
            yield (
                f"point {chosen.point} is chosen of {count(len(self.points), 'finalist')}; the "
                "study states no baseline to be better than"
            )
        decisive = self.decisive
        if decisive is not None and decisive.finding is not None:
            yield from self._compared(decisive, decisive.finding)
        elif decisive is not None and not decisive.remaining:
            yield f"no gain over the baseline was shown; point {decisive.point} fell behind it"
        if chosen.mean is not None:
            yield (
                f"the best single training of the search had {self.metric} "
                f"{self.raw_best.value:.4f} (trial {self.raw_best.number}, chosen for its value); "
                f"point {chosen.point} has a mean of {chosen.mean:.4f} over "
                f"{count(chosen.seeds, 'fresh seed')}"
            )

    def _compared(self, point: ConfirmedPoint, finding: BaselineComparison) -> Iterator[str]:
        sign = 1 if self.direction == "maximize" else -1
        low, high = sorted((sign * finding.interval.low, sign * finding.interval.high))
        figures = (
            f"{self.metric} {sign * finding.difference.mean:+.4f} ({low:+.4f} to {high:+.4f} "
            f"at a level of {finding.level:.2g}, {count(finding.difference.pairs, 'seed')})"
        )
        name = f"point {point.point}"
        match finding.verdict:
            case Verdict.BETTER:
                yield f"{name} is better than the baseline: {figures}"
            case Verdict.WORSE:
                yield f"no gain over the baseline was shown; {name} is worse: {figures}"
            case Verdict.EQUIVALENT:
                margin = f"{self.rules.margin:g}"
                yield f"{name} and the baseline differ by less than {margin}: {figures}"
            case Verdict.UNDECIDED:
                yield f"no gain over the baseline was shown; {name}: {figures}"
                if self.more_seeds is not None:
                    trainings = count(2 * self.more_seeds, "training")
                    yield (
                        f"about {count(self.more_seeds, 'more seed')} of both would probably "
                        f"decide: {trainings} of about {seconds(self.training_s)}"
                    )


def confirmation_name(study: str) -> str:
    """The name of a study's confirmation."""
    return f"{study}-confirmation"


def rules_of(stated: Confirmation, changes: Mapping[str, Any]) -> Confirmation:
    """The rules that are stated, with changes.

    Raises:
        SpecError: a change is unknown or breaks a rule.
    """
    try:
        return Confirmation.model_validate({**stated.model_dump(), **changes})
    except ValidationError as error:
        found = problems_in(error, Confirmation.model_fields)
        raise SpecError("confirmation", map(str, found)) from error


def find_confirmation(study: Study) -> Study | None:
    """The confirmation of a study, to be used while the study is open; None if there is none."""
    found = study.sibling(confirmation_name(study.name))
    race = None if found is None else found.spec.race
    return found if race is not None and race.study == study.name else None


def confirmation_of(study: Study, changes: Mapping[str, Any]) -> StudyFile:
    """The study that confirms this one, ready to run: the one that has begun, or a new one.

    A new one is created with the study's data set and code, so that it runs with no other.

    Args:
        study: the study.
        changes: rules that replace those in the study's file. For a race that has begun, only
            `max_seeds` may be another than before.

    Raises:
        RefusedError: nothing can be confirmed: the study has no validation images, no completed
            trial, or only one point; or it is a confirmation itself.
        SpecError: a rule is invalid, or the study's name is too long.
    """
    record = study.record
    begun = find_confirmation(study)
    if begun is not None and begun.spec.race is not None:
        rules = rules_of(begun.spec.race.rules, changes)
        race = begun.spec.race.model_copy(update={"rules": rules})
        spec = begun.spec.model_copy(update={"race": race})
    else:
        spec = _new_confirmation(study, rules_of(study.spec.confirmation, changes))
        study.create_sibling(spec)
    return StudyFile(spec, record.source, folders_here(record.code_path), record.overrides)


def _new_confirmation(study: Study, rules: Confirmation) -> StudySpec:
    spec = study.spec
    if spec.race is not None:
        raise RefusedError(f"{spec.name} is a confirmation itself, of {spec.race.study}")
    if not spec.validation:
        raise RefusedError(f"{spec.name} has no validation images to compare its points on")
    finalists, against = _finalists(study, rules)
    if len(finalists) == 1:
        raise RefusedError(f"{spec.name} has a single point, and nothing to compare it with")
    document: dict[str, Any] = {
        **study_document(spec),
        "name": confirmation_name(spec.name),
        "search_space": {
            name: entry for name, entry in spec.search_space.items() if name != _PATIENCE
        },
        "baseline": [each.params for each in finalists],
        "sampler": "random",
        "pruner": "none",
        "trials": len(finalists),
        "seeds": 1,
        "epochs": _epochs(study, finalists),
        "seed": confirmation_seed(spec),
        "race": Race(study=spec.name, against=against, rules=rules),
    }
    try:
        return StudySpec.model_validate(document, context=STORED)
    except ValidationError as error:
        problems = problems_in(error, StudySpec.model_fields)
        raise SpecError(document["name"], map(str, problems)) from error


def forecast(study: Study, confirmation: StudySpec) -> Forecast | None:
    """What the confirmation costs, by the median time of the study's epochs; None if unknown."""
    results = [stored_result(row) for row in study.trials.all()]
    epochs = [
        each.total_time_s / each.epochs for each in results if each.total_time_s and each.epochs
    ]
    if not epochs:
        return None
    return Forecast(
        fewest=FIRST_BLOCKS * confirmation.trials,
        most=confirmation.slots,
        training_s=confirmation.epochs * median(epochs),
    )


def find_report(study: Study) -> ConfirmationReport | None:
    """What the confirmation of a study has found so far; None if there is none.

    Raises:
        RefusedError: the study no longer has the points that were confirmed.
    """
    confirmation = find_confirmation(study)
    if confirmation is None:
        return None
    spec, rows = confirmation.spec, confirmation.trials.all()
    assert spec.race is not None
    state = race_state(spec, values_of(spec, rows))
    numbers = _numbers(study, spec)
    results = [(point_of(spec, row.user_attrs[SLOT]), row) for row in rows]
    values = {
        point: [float(row.value or 0) for own, row in results if own == point and _has_value(row)]
        for point in range(spec.trials)
    }
    took = [stored_result(row).total_time_s or 0.0 for row in rows if _has_value(row)]
    against = spec.race.against
    found = ConfirmationReport(
        study=spec.name,
        metric=spec.objective.metric,
        direction=spec.objective.direction,
        seeds=state.blocks,
        over=state.over,
        points=tuple(
            ConfirmedPoint(
                point=numbers[point],
                params=dict(spec.baseline[point]),
                mean=fmean(values[point]) if values[point] else None,
                std=stdev(values[point]) if len(values[point]) > 1 else None,
                seeds=len(values[point]),
                remaining=point in state.remaining,
                finding=state.findings.get(point),
            )
            for point in state.ranked
        ),
        baseline=None if against is None else numbers[against],
        chosen=numbers[chosen_point(spec, rows)],
        raw_best=_raw_best(study),
        training_s=fmean(took) if took else 0.0,
        rules=spec.race.rules,
    )
    point = found.decisive
    if found.verdict is not Verdict.UNDECIDED or point is None or not point.remaining:
        return found
    assert point.finding is not None
    more = more_blocks(point.finding, spec.race.rules)
    return found.model_copy(update={"more_seeds": more})


def chosen_training(study: Study) -> tuple[Study, int] | None:
    """The confirmation, and the number of its trial that represents the chosen point.

    None if the study has no confirmation that is over. The trial is the median one of its point,
    the worse of two, never the best.
    """
    confirmation = find_confirmation(study)
    if confirmation is None:
        return None
    spec, rows = confirmation.spec, confirmation.trials.all()
    if not race_state(spec, values_of(spec, rows)).over:
        return None
    chosen = chosen_point(spec, rows)
    for ranked in rank(spec, trainings(rows)):
        if ranked.point == chosen:
            return confirmation, ranked.representatives[0].number
    return None


def _has_value(row: FrozenTrial) -> bool:
    return row.state is TrialState.COMPLETE and row.value is not None


def _finalists(study: Study, rules: Confirmation) -> tuple[list[Finalist], int | None]:
    """The points that race, and the index of the baseline among them; None if there is none.

    Of equal points, which a sampler may choose, one races.
    """
    summary = study.summary()
    if summary.best is None:
        raise RefusedError(f"no trial of {study.name} has completed")
    stated = [trial for trial in summary.trials if point_of(study.spec, trial.slot) == 0]
    if study.spec.baseline and not stated:
        raise RefusedError(f"the baseline of {study.name} has not been trained yet")
    baseline = Finalist(point=0, params=_raced(stated[0].params)) if study.spec.baseline else None
    finalists: list[Finalist] = []
    for each in summary.points:
        params = _raced(each.params)
        known = [other.params for other in (*finalists, baseline) if other is not None]
        if params not in known and len(finalists) < rules.finalists:
            finalists.append(Finalist(point=each.point, params=params))
    return (finalists, None) if baseline is None else ([*finalists, baseline], len(finalists))


def _raced(params: Mapping[str, Scalar]) -> dict[str, Scalar]:
    """The parameters of a point that a confirmation has too."""
    return {name: value for name, value in params.items() if name != _PATIENCE}


def _epochs(study: Study, finalists: Sequence[Finalist]) -> int:
    """The number of epochs that the study has learnt: the median of the finalists' best ones."""
    points = {each.point for each in finalists}
    best = [
        stored_result(row).best_epoch
        for row in study.trials.all()
        if _has_value(row) and point_of(study.spec, row.user_attrs[SLOT]) in points
    ]
    known = [epoch for epoch in best if epoch is not None]
    return median_high(known) if known else study.spec.epochs


def _numbers(study: Study, confirmation: StudySpec) -> list[int]:
    """The numbers that the points of a confirmation have in its study."""
    known = {
        tuple(sorted(_raced(row.params).items())): point_of(study.spec, row.user_attrs[SLOT])
        for row in reversed(study.trials.all())
    }
    numbers = [known.get(tuple(sorted(point.items()))) for point in confirmation.baseline]
    if None in numbers:
        raise RefusedError(
            f"{confirmation.name} confirms points that {study.name} does not have, so those of "
            f"another study of that name: tuner delete {confirmation.name}"
        )
    return [number for number in numbers if number is not None]


def _raw_best(study: Study) -> TrialSummary:
    """The trial with the best single value."""
    sign = 1 if study.spec.objective.direction == "maximize" else -1
    completed = filter(_has_value, study.trials.all())
    best = max(completed, key=lambda row: sign * float(row.value or 0.0))
    return ended_summary(study.spec, best)
