"""What a confirmation has found about the points of its study, in numbers and in words."""

from collections.abc import Iterator
from statistics import fmean, stdev
from typing import Literal

from tuner.errors import RefusedError, UsageError
from tuner.search.claims import claims_of
from tuner.search.points import point_of
from tuner.search.race import Comparison, Verdict, more_blocks
from tuner.search.race_trials import chosen_point, race_state, values_of
from tuner.search.ranking import rank, trainings
from tuner.search.trials import stored_result
from tuner.spec.section import Frozen
from tuner.spec.study_spec import Confirmation, StudySpec
from tuner.storage.tables import SLOT
from tuner.study.confirmation.missed import find_missed
from tuner.study.confirmation.race_study import Finalist, find_confirmation, has_value, raced
from tuner.study.study import Study
from tuner.tracking.runs.study_run import MISSED_TABLE
from tuner.tracking.spool.spool_events import ClaimSummary, MissedImage, TrialSummary
from tuner.words import command, count, seconds

_FEASIBLE = 10
"""A race that would take so many times the seeds that it had is not advised."""


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
    finding: Comparison | None
    """Its comparison with the baseline; None for the baseline, or before the first comparison."""

    @property
    def differs(self) -> bool:
        """Whether it is better or worse than the baseline."""
        verdict = None if self.finding is None else self.finding.verdict
        return verdict in (Verdict.BETTER, Verdict.WORSE)


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
    best_single: TrialSummary
    """The study's trial with the best single value, which was luck in part."""
    more_seeds: int | None = None
    """How many more seeds would probably decide, where nothing is and more would be trained."""
    claims: tuple[ClaimSummary, ...] = ()
    """What was found about the study's claims, in the order of its file."""
    training_s: float
    """Seconds of one training in the race; 0 before the first one has ended."""
    rules: Confirmation
    missed: tuple[MissedImage, ...] | None = None
    """The images that every good training missed; None if that is not known, see `find_missed`."""

    def of(self, point: int) -> ConfirmedPoint:
        """The point with this number in the study."""
        return next(each for each in self.points if each.point == point)

    def not_told_from(self, point: int) -> tuple[str, ...] | None:
        """What a point cannot be told from: `best`, `baseline`, both or neither.

        The best is the leader of the race. A point is told from it once it is left out, and the
        baseline once the leader is better. Another point is told from the baseline once it is
        better or worse.

        Returns:
            None if the point did not race, so that nothing is known.
        """
        own = next((each for each in self.points if each.point == point), None)
        if own is None:
            return None
        leader, is_baseline = self.points[0], point == self.baseline
        behind = leader.differs if is_baseline else not own.remaining
        like_best = own is not leader and not behind
        like_baseline = self.baseline is not None and not is_baseline and not own.differs
        return ("best",) * like_best + ("baseline",) * like_baseline

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
        for claim in self.claims:
            yield from self._claimed(claim)
        if chosen.mean is not None and len(self.points) > 1:
            single = self.best_single
            yield (
                f"the best single training of the search had {self.metric} "
                f"{single.value:.4f} (trial {single.number}, chosen for its value); "
                f"{self._named(chosen.point)} has a mean of {chosen.mean:.4f} over "
                f"{count(chosen.seeds, 'fresh seed')}"
            )

    def missed_line(self) -> str:
        """How many images every good training missed, and where they are; empty if not known."""
        if self.missed is None:
            return ""
        if not self.missed:
            return "no validation image was missed by every good training"
        first = self.missed[0]
        where = f"{MISSED_TABLE} of {self.study}'s run in MLflow"
        return (
            f"{count(len(self.missed), 'validation image was', 'validation images were')} missed "
            f"by every good training, such as row {first.row}, {first.label} taken for "
            f"{first.predicted}: {where}"
        )

    def _claimed(self, claim: ClaimSummary) -> Iterator[str]:
        if claim.verdict != "undecided":
            return
        if claim.more_seeds is None:
            yield f"claim {claim.name!r} is undecided"
        elif claim.more_seeds > _FEASIBLE * self.seeds:
            yield (
                f"claim {claim.name!r} is undecided; to decide it would take over {_FEASIBLE} "
                "times as many seeds"
            )
        else:
            trainings = count(2 * claim.more_seeds, "training")
            yield (
                f"claim {claim.name!r} is undecided; about {count(claim.more_seeds, 'more seed')} "
                f"would probably decide: {trainings} of about {seconds(self.training_s)}"
            )

    def _named(self, point: int) -> str:
        return f"point {point}{', the baseline,' * (point == self.baseline)}"

    def _compared(self, point: ConfirmedPoint, finding: Comparison) -> Iterator[str]:
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
                if self.more_seeds is not None and self.more_seeds > _FEASIBLE * self.seeds:
                    yield f"to decide so little would take over {_FEASIBLE} times as many seeds"
                elif self.more_seeds is not None:
                    trainings = count(2 * self.more_seeds, "training")
                    yield (
                        f"about {count(self.more_seeds, 'more seed')} of both would probably "
                        f"decide: {trainings} of about {seconds(self.training_s)}"
                    )


def find_report(study: Study) -> ConfirmationReport | None:
    """What the confirmation of a study has found so far; None if there is none.

    Raises:
        RefusedError: the study no longer has the points that were confirmed, or has no result.
    """
    confirmation = find_confirmation(study)
    if confirmation is None:
        return None
    spec, rows = confirmation.spec, confirmation.trials.all()
    assert spec.race is not None
    state = race_state(spec, values_of(spec, rows))
    summary = study.summary()
    summary.best_point()  # refuses a study of that name that has none yet
    numbers, best_single = _numbers(study, spec), summary.best_single
    assert best_single is not None, "a trial has completed"
    results = [(point_of(spec, row.user_attrs[SLOT]), row) for row in rows]
    values = {
        point: [float(row.value or 0) for own, row in results if own == point and has_value(row)]
        for point in range(spec.trials)
    }
    missed = find_missed(confirmation.record, rows, study.datasets)
    took = [stored_result(row).total_time_s or 0.0 for row in rows if has_value(row)]
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
        best_single=best_single,
        claims=claims_of(spec, rows),
        training_s=fmean(took) if took else 0.0,
        rules=spec.race.rules,
        missed=None if missed is None else missed.images,
    )
    point = found.decisive
    if found.verdict is not Verdict.UNDECIDED or point is None or not point.remaining:
        return found
    assert point.finding is not None
    more = more_blocks(point.finding, spec.race.rules)
    return found.model_copy(update={"more_seeds": more})


def verdict_of(confirmation: Study) -> tuple[str, ...]:
    """What the race that a study is has found, in words. The first line is the answer.

    Empty if the study is no race, or is not over, or if its study or the points are gone.
    """
    race = confirmation.spec.race
    try:
        origin = None if race is None else confirmation.sibling(race.study)
        found = None if origin is None else find_report(origin)
    except (RefusedError, UsageError):  # another study has that name now, or its row is damaged
        return ()
    if found is None or not found.over or found.study != confirmation.name:
        return ()
    return tuple(filter(None, (*found.lines(), found.missed_line())))


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


def _numbers(study: Study, confirmation: StudySpec) -> list[int]:
    """The numbers that the points of a confirmation have in its study, without those of claims."""
    assert confirmation.race is not None
    racing = confirmation.baseline[: confirmation.trials - confirmation.race.claimed]
    known = {
        tuple(sorted(raced(row.params).items())): point_of(study.spec, row.user_attrs[SLOT])
        for row in reversed(study.trials.all())
    }
    numbers = [known.get(tuple(sorted(point.items()))) for point in racing]
    if None in numbers:
        raise RefusedError(
            f"{confirmation.name} confirms points that {study.name} does not have, so those of "
            f"another study of that name: {command('delete', confirmation.name)}"
        )
    return [number for number in numbers if number is not None]
