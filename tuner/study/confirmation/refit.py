"""The refit: a study that trains one point again, on the validation rows too, and its checks."""

import itertools
from collections.abc import Iterator, Mapping

from optuna.trial import FrozenTrial, TrialState

from tuner.errors import RefusedError
from tuner.search.points import point_of, refit_seed
from tuner.search.trials import stored_result
from tuner.spec.resume import resume_problems
from tuner.spec.search_space import Scalar
from tuner.spec.study_spec import Refit, StudySpec
from tuner.storage.tables import SLOT
from tuner.study.confirmation.race_study import Finalist, fixed_points
from tuner.study.study import Study
from tuner.study.study_file import StudyFile
from tuner.words import command

_MOST_WORSE = 0.01
"""What a refit's training error may exceed twice that of its point's trainings by."""


def find_refits(study: Study) -> Iterator[Study]:
    """Yields the refits of a study, the oldest first, to be used while the study is open."""
    for name in study.sibling_names():
        if not name.startswith(_name(study, 1)):
            continue
        found = study.sibling(name)
        if found is not None and found.spec.refit_of and found.spec.origin == study.name:
            yield found


def refit_study(study: Study, point: int, params: Mapping[str, Scalar], epochs: int) -> StudyFile:
    """The study that trains a point again on all rows, ready to run: an equal one, or a new one.

    Its seed follows from that of the study, so no lucky one can be chosen. A new one is created
    with the study's data set and code.

    Args:
        study: the study.
        point: the point's number.
        params: its searched parameters.
        epochs: the epochs to train.

    Raises:
        SpecError: the study's name is too long.
    """
    chosen = Finalist(point=point, params=dict(params))
    for known in find_refits(study):
        spec = _refit(study.spec, known.name, chosen, epochs)
        if _is_same(known, spec, study):
            break
    else:
        taken = set(study.sibling_names())
        names = (_name(study, number) for number in itertools.count(1))
        spec = _refit(study.spec, next(each for each in names if each not in taken), chosen, epochs)
        study.create_sibling(spec)
    return StudyFile.stored(spec, study.record)


def check_same_code(study: Study, owner: Study, trial: int) -> None:
    """Checks that a refit would train the network of a training, not a later one.

    Args:
        study: the study whose newest code a refit trains.
        owner: the study that has the training: this one, or its confirmation.
        trial: the number of the training's trial.

    Raises:
        RefusedError: the study has accepted other code since.
    """
    code = next((stored_result(row).code for row in owner.trials.all() if row.number == trial), "")
    trained, newest = owner.code_versions.that_trained(trial, code), study.code_versions.all()[-1:]
    if trained is not None and newest and trained.digest != newest[0].digest:
        raise RefusedError(
            f"trial {trial} of {owner.name} was trained with other code than {study.name} has now, "
            f"so a refit would be another network; {_without_refit(study.name)}"
        )


def check_refit(refit: Study, owner: Study, trial: int) -> None:
    """Checks that a refit has learnt its images about as well as its point's trainings did.

    One seed in many may diverge. That shows on the training images, so the test set stays closed.

    Args:
        refit: the refit, which has been run.
        owner: the study with the point's trainings.
        trial: the number of one of their trials.

    Raises:
        RefusedError: it has not completed, or its training error is more than twice that of the
            worst of them, and 0.01.
    """
    _check_completed(refit)
    spec, rows = owner.spec, owner.trials.all()
    points = {row.number: point_of(spec, row.user_attrs[SLOT]) for row in rows}
    before = [_training_error(row) for row in rows if points[row.number] == points[trial]]
    worst = max((error for error in before if error is not None), default=None)
    now = next((_training_error(row) for row in refit.trials.all()), None)
    if now is None or worst is None or now <= 2 * worst + _MOST_WORSE:
        return
    raise RefusedError(
        f"{refit.name} did not learn: its accuracy on the training images is {1 - now:.4f}, the "
        f"trainings of its point in {owner.name} had at least {1 - worst:.4f}; the test set was "
        f"not opened; {_without_refit(refit.spec.origin or refit.name)}"
    )


def _check_completed(refit: Study) -> None:
    summary = refit.summary()
    if summary.best is not None:
        return
    if summary.done:
        raise RefusedError(
            f"{refit.name} has failed; for the reason see error.txt of its run in MLflow; to train "
            f"it again: {command('delete', refit.name)}"
        )
    raise RefusedError(f"{refit.name} has not ended; the same command resumes it")


def _without_refit(study: str) -> str:
    return (
        "promote the point's median training with promotion.refit: false, or a trial with: "
        f"{command('promote', study, options=['--trial', 'N'])}"
    )


def _training_error(row: FrozenTrial) -> float | None:
    """The share of training images that a completed trial has wrong; None if it is not known."""
    if row.state is not TrialState.COMPLETE:
        return None
    accuracy = stored_result(row).best_metrics.get("accuracy")
    return None if accuracy is None else 1 - accuracy


def _name(study: Study, number: int) -> str:
    return f"{study.name}-refit" if number == 1 else f"{study.name}-refit-{number}"


def _refit(spec: StudySpec, name: str, point: Finalist, epochs: int) -> StudySpec:
    return fixed_points(
        spec,
        name,
        [point.params],
        epochs=epochs,
        seed=refit_seed(spec),
        validation=0,
        claims=[],
        objective=spec.objective.metric.removeprefix("val_"),
        refit_of=Refit(study=spec.name, point=point.point),
    )


def _is_same(known: Study, spec: StudySpec, study: Study) -> bool:
    same_data = known.record.dataset.digest == study.record.dataset.digest
    return same_data and not resume_problems(known.spec, spec)
