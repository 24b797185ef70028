"""Selects what is promoted: confirms the study's best points, and trains the chosen one again.

A point is chosen by the study's confirmation, or where that is off or impossible by its mean. Then
the point is trained on all rows, with a fixed seed and number of epochs (the refit). So what is
registered is never the luckiest of many trainings.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

from tuner.errors import RefusedError, UsageError
from tuner.promotion.candidate import Candidate, Grounds
from tuner.promotion.nomination import kept_trials, nominate
from tuner.search.ranking import PointSummary
from tuner.spec.search_space import Scalar
from tuner.spec.study_spec import StudySpec
from tuner.study.confirmation.race_study import (
    begin_confirmation,
    best_epochs,
    find_confirmation,
    raced,
    why_no_rivals,
)
from tuner.study.confirmation.refit import check_refit, check_same_code, refit_study
from tuner.study.confirmation.report import ConfirmationReport, chosen_training, find_report
from tuner.study.study import Study
from tuner.study.study_file import StudyFile
from tuner.words import command, count

Train = Callable[[StudyFile], object]
"""Runs a study that follows from another one, to its end."""
Say = Callable[[str], None]


@dataclass(frozen=True)
class Selection:
    """The training to promote."""

    owner: Study
    """The study that has it: the refit, the confirmation, or the study itself."""
    candidate: Candidate
    twin: Candidate | None = None
    """Of a refit: a training of the same point that has validation figures to reproduce."""


@dataclass(frozen=True)
class _Choice:
    """A point of the study, and the training that represents it."""

    grounds: Grounds
    params: dict[str, Scalar]
    epochs: int
    """The epochs that a refit of the point is trained."""
    owner: Study
    trial: int


def select(
    study: Study,
    terms: StudySpec,
    train: Train,
    *,
    trial: int | None = None,
    point: int | None = None,
    unconfirmed: bool = False,
    say: Say,
) -> Selection:
    """Selects the study's best point, or a stated point or trial.

    Args:
        study: the study.
        terms: the study with the terms of this promotion, see `terms.terms`.
        train: runs the confirmation and the refit.
        trial: the number of a trial, which is taken as it was trained.
        point: the number of a point.
        unconfirmed: choose the best point by its mean, without a confirmation.
        say: receives a line for each step.

    Raises:
        UsageError: there is no such point or trial, or both are stated.
        RefusedError: nothing can be promoted, the study has trials to go, or the confirmation or
            the refit has not ended.
        TunerError: as `train`.
    """
    if trial is not None and point is not None:
        raise UsageError("--trial and --point exclude each other")
    if trial is not None:
        choice = _stated_trial(study, trial, say)
    elif point is not None:
        choice = _stated_point(study, point)
    elif why := "--unconfirmed" if unconfirmed else _why_unconfirmed(study, terms):
        choice = _by_mean(study, f"not confirmed ({why})")
    else:
        choice = _confirmed(study, terms, train, say)
    twin = None
    if trial is None and terms.promotion.refit and study.spec.validation:
        kept = choice.trial in kept_trials(choice.owner)  # a stated point's may not be
        twin = nominate(choice.owner, choice.trial, say) if kept else None
        choice = _refitted(study, choice, train, say)
    candidate = nominate(choice.owner, choice.trial, say)
    say(_described(candidate, choice.grounds, study.spec.objective.metric))
    stated = candidate.model_copy(update={"grounds": choice.grounds})
    return Selection(choice.owner, stated, twin)


def _stated_trial(study: Study, number: int, say: Say) -> _Choice:
    nominate(study, number, say)  # refuses what cannot be promoted
    trial = study.summary().trial(number)
    grounds = Grounds(
        study=study.name, point=trial.point, lines=("not confirmed (the trial was stated)",)
    )
    return _Choice(grounds, trial.params, trial.epochs, study, number)


def _stated_point(study: Study, point: int) -> _Choice:
    found = next((each for each in study.summary().points if each.point == point), None)
    if found is None:
        raise UsageError(f"study {study.name!r}: no training of a point {point} has completed")
    return _represented(study, found, "not confirmed (the point was stated)")


def _by_mean(study: Study, why: str) -> _Choice:
    return _represented(study, study.summary().best_point(), why)


def _represented(study: Study, point: PointSummary, why: str) -> _Choice:
    """A point by its own trainings in the study."""
    grounds = Grounds(
        study=study.name,
        point=point.point,
        mean=point.mean,
        std=point.std,
        seeds=point.completed,
        lines=(why,),
    )
    epochs = best_epochs(study, [point.point])
    return _Choice(grounds, point.params, epochs, study, point.trial.number)


def _why_unconfirmed(study: Study, terms: StudySpec) -> str:
    """Returns why the study is promoted without a confirmation; empty if it needs one."""
    if terms.confirmation is None:
        return "confirmation: off"
    if not study.spec.validation:
        return "the study has no validation images"
    if find_confirmation(study) is not None or not study.summary().done:
        return ""
    return why_no_rivals(study, terms.confirmation)


def _confirmed(study: Study, terms: StudySpec, train: Train, say: Say) -> _Choice:
    """The point that the study's confirmation chose; begins or resumes one that is not over."""
    chosen = chosen_training(study) or _after_race(study, terms, train, say)
    report = find_report(study)
    if report is not None and report.over and chosen is None:
        raise RefusedError(
            f"no training of the point that {report.study} chose has completed; for the reasons "
            "see error.txt of its runs in MLflow; to confirm anew: "
            + command("delete", report.study)
        )
    if chosen is None or report is None:
        raise RefusedError(
            f"not promoted: the confirmation of {study.name} is not over; resume it with: "
            f"{command('confirm', study.name)}"
        )
    best = study.summary().best_point()
    if raced(best.params) not in [each.params for each in report.points]:
        say(
            f"point {best.point} is best now and newer than {report.study}, which does not count "
            f"it; to confirm anew: {command('delete', report.study)}"
        )
    race, trial = chosen
    params = report.of(report.chosen).params
    return _Choice(_grounds(study, report), params, race.spec.epochs, race, trial)


def _after_race(study: Study, terms: StudySpec, train: Train, say: Say) -> tuple[Study, int] | None:
    """Runs the confirmation of a study to its end; see `chosen_training`."""
    summary = study.summary()
    summary.best_point()  # refuses a study without one
    if not summary.done:
        raise RefusedError(
            f"{study.name} has {count(summary.slots - summary.ended, 'trial')} to go; run it to "
            "its end, or promote what is best so far: "
            + command("promote", "best", study.name, options=["--unconfirmed"])
        )
    is_new = find_confirmation(study) is None
    assert terms.confirmation is not None, "it is asked for"
    say(
        f"confirming {study.name}: its best points and its baseline are trained again with fresh "
        "seeds; --unconfirmed skips that"
    )
    rules = terms.confirmation.model_dump() if is_new else {}
    train(begin_confirmation(study, rules, say))
    return chosen_training(study)


def _grounds(study: Study, report: ConfirmationReport) -> Grounds:
    chosen = report.of(report.chosen)
    return Grounds(
        study=study.name,
        point=chosen.point,
        confirmation=report.study,
        verdict=report.verdict,
        mean=chosen.mean,
        std=chosen.std,
        seeds=chosen.seeds,
        missed=report.missed,
        lines=tuple(report.lines()),
    )


def _refitted(study: Study, choice: _Choice, train: Train, say: Say) -> _Choice:
    """The refit of the chosen point, which is trained unless it has been."""
    point = choice.grounds.point
    check_same_code(study, choice.owner, choice.trial)
    file = refit_study(study, point, raced(choice.params), choice.epochs)
    say(
        f"training point {point} again on all training images, those for validation too, "
        f"{count(choice.epochs, 'epoch')}: {file.spec.name}"
    )
    train(file)
    owner = study.sibling(file.spec.name)
    assert owner is not None, "refit_study has created it"
    check_refit(owner, choice.owner, choice.trial)
    grounds = choice.grounds.model_copy(update={"refit": True})
    return replace(choice, owner=owner, trial=0, grounds=grounds)


def _described(candidate: Candidate, grounds: Grounds, metric: str) -> str:
    """Which training it is, and of which point, which was chosen by `metric`."""
    trial = f"trial {candidate.number} of {candidate.study}"
    mean = "" if grounds.mean is None else f"mean {metric} {grounds.mean:.4f}, "
    std = "" if grounds.std is None else f"standard deviation {grounds.std:.4f}, "
    point = f"point {grounds.point} ({mean}{std}n = {grounds.seeds})"
    if grounds.refit:  # its value is of images that it was trained on
        return f"{trial} is {point} trained on all training images"
    trial = f"{trial}, {candidate.metric} {candidate.value:.4f}"
    if grounds.std is not None:
        return f"{trial}, is the median training of {point}"
    return f"{trial}, is promoted as it was trained"
