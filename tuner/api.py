"""The Python interface: the same functions as the commands, for programs.

Each function imports what it needs when it is called.
"""

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from tuner.home import Home
from tuner.spec.study_spec import checked_workers
from tuner.spec.text.reader import read_study
from tuner.study.driver_events import Notify, SetupStep, ignore
from tuner.study.study import load_study
from tuner.study.summary import StudySummary
from tuner.tracking.settings import TrackingSettings

if TYPE_CHECKING:
    from tuner.promotion.evaluation import TestEvaluation
    from tuner.promotion.registry.history import History, PastAct
    from tuner.promotion.registry.registered import Model
    from tuner.promotion.report import PromotionReport
    from tuner.storage.test_set_accesses import TestSetAccess
    from tuner.study.confirmation.report import ConfirmationReport
    from tuner.study.study_file import StudyFile
    from tuner.verification.comparison import Verification

__all__ = [
    "confirm",
    "evaluate",
    "load_study",
    "looks",
    "promote",
    "promotion_history",
    "registered_models",
    "rollback",
    "run_study",
    "verify",
]


def run_study(
    file: str | Path,
    *,
    home: Home | None = None,
    accept_new_code: bool = False,
    notify: Notify = ignore,
    stopped: Callable[[], bool] = lambda: False,
    **overrides: Any,
) -> StudySummary:
    """Runs a study file, or resumes the study where it stopped.

    If the file states claims, the study's confirmation follows, which decides them; `confirm`
    returns what was found.

    Args:
        file: the study file, YAML.
        home: the home folder; by default `TUNER_HOME`, or else `.tuner`.
        accept_new_code: resume although the user's code has changed, and record the first trial
            that the new code trains.
        notify: receives an event for each step, trial and epoch.
        stopped: is called at least every half second; True interrupts all trials and returns.
        overrides: new values for top-level keys of the file, such as `trials=3`.

    Returns:
        The summary of the study, complete or stopped, without that of the confirmation.

    Raises:
        TunerError: see `tuner.errors`.
    """
    from tuner.driver.confirmation import decide_claims
    from tuner.driver.run_study import run_study as run
    from tuner.study.study_file import StudyFile

    path = Path(file)
    changes = tuple(f"{key}={json.dumps(value)}" for key, value in overrides.items())
    study_file = StudyFile(read_study(path, changes), str(path), (path.parent,), changes)
    place = home or Home.from_environment()
    begin = partial(run, home=place, notify=notify, stopped=stopped)
    summary = begin(study_file, accept_new_code=accept_new_code)
    decide_claims(study_file, summary, place, begin, _told(notify))
    return summary


def confirm(
    study: str,
    *,
    workers: int | Literal["auto"] | None = None,
    home: Home | None = None,
    notify: Notify = ignore,
    stopped: Callable[[], bool] = lambda: False,
    **rules: Any,
) -> "ConfirmationReport":
    """Races a study's best points against its baseline, with fresh seeds, or resumes the race.

    Each block trains every point that is still in the race once, on a seed and validation rows
    that the block shares. Points that fall behind are left out. The claims of the study are
    decided in the same race. It ends when all of that is decided, or `max_seeds` is reached.

    Args:
        study: its name. The confirmation is a study too, `STUDY-confirmation`.
        workers: the number of trainers, or `auto`; by default as for the study.
        home: the home folder; by default `TUNER_HOME`, or else `.tuner`.
        notify: receives an event for each step, trial and epoch.
        stopped: is called at least every half second; True interrupts all trials and returns.
        rules: `finalists`, `max_seeds`, `margin` and `level`, instead of those in the study file.
            A race that has begun may get another `max_seeds`, and keeps the others.

    Returns:
        What was found, complete or stopped.

    Raises:
        RefusedError: there is nothing to confirm.
        SpecError: a rule or `workers` is invalid, or the race began with other rules or points.
        TunerError: as for `run_study`.
    """
    from tuner.driver.confirmation import run_confirmation
    from tuner.driver.run_study import run_study as run

    place = home or Home.from_environment()
    begin = partial(run, home=place, notify=notify, stopped=stopped)
    trainers = None if workers is None else checked_workers(workers)
    with load_study(study, place) as opened:
        return run_confirmation(opened, rules, begin, _told(notify), trainers).report


def promote(
    study: str | None = None,
    *,
    trial: int | None = None,
    point: int | None = None,
    unconfirmed: bool = False,
    dry_run: bool = False,
    replace: bool = False,
    challenger: bool = False,
    file: str | Path | None = None,
    workers: int | Literal["auto"] | None = None,
    home: Home | None = None,
    train: Callable[["StudyFile"], object] | None = None,
    say: Callable[[str], None] = lambda _text: None,
) -> "PromotionReport":
    """Trains the best point on all rows, tests it on the test set, and registers it if it passes.

    The best point is the one that the study's confirmation chooses, which is run first unless it
    is over, the study file says `confirmation: off`, or there is nothing to compare. The point is
    then trained again on the validation rows too, for as many epochs as the study has learnt, on a
    seed that is fixed beforehand (`promotion.refit: false` takes its median training instead).

    The trial passes if every gate passes. Those against the champion compare the two models'
    answers to the same test rows. Each access to the test set is recorded before it happens.

    Args:
        study: its name; by default the newest study with a completed trial.
        trial: the number of the trial to promote instead, as it was trained.
        point: the number of the point to promote instead.
        unconfirmed: choose the best point by its mean so far, without a confirmation.
        dry_run: test the model and check the gates, but register nothing.
        replace: waive the gates against the champion, also where it cannot be compared.
        challenger: register it beside the champion, under the alias `challenger`.
        file: the study file with the model name and gates; by default those of the last run.
        workers: the number of trainers of the confirmation and the refit, or `auto`; by default as
            for the study.
        home: the home folder; by default `TUNER_HOME`, or else `.tuner`.
        train: runs the confirmation and the refit; by default as `run_study` does.
        say: receives a line for each step.

    Returns:
        What was measured, and whether the model was registered.

    Raises:
        RefusedError: no trial can be promoted, its run is deleted, the champion cannot be
            compared, or the study file was edited since the last run.
        UsageError: there is no such study, point or trial; both a point and a trial are given; or
            `workers` is invalid.
        ModelError: the model is missing, damaged, not trusted or not the validated one.
        UnavailableError: the database or MLflow does not answer.
        TunerError: as for `run_study`.
    """
    from tuner.driver.run_study import run_study as run
    from tuner.promotion.nomination import newest_study
    from tuner.promotion.selection import select
    from tuner.promotion.terms import terms

    place = home or Home.from_environment()
    trainers = None if workers is None else checked_workers(workers)
    trained = train or (lambda begun: run(begun, place))
    with load_study(study, place) if study else newest_study(place) as opened:
        spec = terms(opened.record, None if file is None else Path(file), say)
        selected = select(
            opened,
            spec,
            lambda begun: trained(begun.with_workers(trainers)),
            trial=trial,
            point=point,
            unconfirmed=unconfirmed,
            say=say,
        )
        from tuner.promotion.promote import promote as judge  # slow to import

        return judge(
            selected.candidate.model_copy(update={"promotion": spec.promotion}),
            TrackingSettings.from_environment(place.root),
            place,
            selected.owner.test_set_accesses,
            selected.owner.registrations,
            twin=selected.twin,
            dry_run=dry_run,
            replace=replace,
            challenger=challenger,
            say=say,
        )


def evaluate(
    study: str,
    *,
    trial: int | None = None,
    every: bool = False,
    home: Home | None = None,
    heard: Callable[[int, "TestEvaluation"], None] = lambda _trial, _evaluation: None,
) -> "dict[int, TestEvaluation]":
    """Scores trials on the test set. Changes nothing except the record of accesses.

    All models are downloaded, loaded and checked before the test set is opened.

    Args:
        study: its name.
        trial: the number of a completed trial; by default the median one of the best
            point.
        every: score each completed trial whose model is kept, with one access each.
        home: the home folder; by default `TUNER_HOME`, or else `.tuner`.
        heard: receives each trial's evaluation at once.

    Returns:
        The evaluation by trial number, the trials of the best point by validation first.

    Raises:
        RefusedError: no such trial has completed, or its run is deleted.
        UsageError: there is no such study.
        ModelError: a model is missing, damaged, not trusted or not the validated one; the other
            trials were scored and passed to `heard`.
        UnavailableError: the database or MLflow does not answer.
    """
    from tuner.promotion.evaluation import evaluate_trials
    from tuner.promotion.nomination import kept_trials

    place = home or Home.from_environment()
    found: dict[int, TestEvaluation] = {}

    def hear(number: int, evaluation: "TestEvaluation") -> None:
        found[number] = evaluation
        heard(number, evaluation)

    with load_study(study, place) as opened:
        numbers = kept_trials(opened) if every else [trial]
        tracking = TrackingSettings.from_environment(place.root)
        evaluate_trials(opened, numbers, tracking, place, hear)
    return found


def registered_models(*, home: Home | None = None) -> "list[Model]":
    """Returns the registered models that tuner made, with their versions, by name.

    Args:
        home: the home folder; by default `TUNER_HOME`, or else `.tuner`.

    Raises:
        UnavailableError: MLflow does not answer.
    """
    from tuner.promotion.registry.registered import registered_models as read

    place = home or Home.from_environment()
    return read(TrackingSettings.from_environment(place.root))


def promotion_history(model: str, *, home: Home | None = None) -> "History":
    """Returns who made which version of a registered model the champion, the oldest act first.

    Args:
        model: the registered model's name.
        home: the home folder; by default `TUNER_HOME`, or else `.tuner`.

    Raises:
        UsageError: there is no such model.
        UnavailableError: MLflow does not answer.
    """
    from tuner.promotion.registry.history import read_history
    from tuner.tracking.mlflow.connection import connected

    place = home or Home.from_environment()
    with connected(TrackingSettings.from_environment(place.root)) as client:
        return read_history(client, model)


def rollback(
    model: str, *, to: int | None = None, why: str = "", home: Home | None = None
) -> "PastAct | None":
    """Makes an earlier version of a registered model the champion again. Opens no test set.

    Args:
        model: the registered model's name.
        to: the version; by default the champion before this one.
        why: the reason, for the record.
        home: the home folder; by default `TUNER_HOME`, or else `.tuner`.

    Returns:
        The record of the act; None if the version was the champion already.

    Raises:
        UsageError: there is no such model or version.
        RefusedError: nothing was promoted, or there was no champion before.
        ModelError: the version's file or tags are not those that its study registered.
        UnavailableError: MLflow or the database does not answer.
    """
    from tuner.promotion.registry.history import rollback as roll_back

    place = home or Home.from_environment()
    return roll_back(TrackingSettings.from_environment(place.root), model, place, to=to, why=why)


def verify(
    study: str,
    *,
    trial: int | None = None,
    home: Home | None = None,
    say: Callable[[str], None] = lambda _text: None,
) -> "Verification":
    """Repeats a recorded training from its record, and compares the two bit for bit.

    The record is the study's stored file, the trial's parameters and seeds, the user's code and
    the data set's digest. Nothing is written to the study, its spools or MLflow.

    Args:
        study: its name. A confirmation is a study too, `STUDY-confirmation`.
        trial: the number of a completed or pruned trial; by default the one that represents the
            best point. A pruned one is repeated up to its last epoch.
        home: the home folder; by default `TUNER_HOME`, or else `.tuner`.
        say: receives a line for each step and epoch.

    Returns:
        Whether the repetition is identical, within noise or different, with the first difference.

    Raises:
        RefusedError: the trial failed, or has not ended.
        UsageError: there is no such study or trial, or the code has changed since.
        DataError: the data set has changed, or is not available on this machine.
        ModelError: the model cannot be built.
        UnavailableError: the database does not answer, or no trainer starts.
    """
    from tuner.verification.verify import verify as repeat

    place = home or Home.from_environment()
    with load_study(study, place) as opened:
        return repeat(opened, place, trial, say)


def looks(wanted: str | None = None, *, home: Home | None = None) -> "list[TestSetAccess]":
    """Returns the accesses to test sets, also those of deleted studies, the oldest first.

    Args:
        wanted: the data set: its name, the beginning of its digest, or a study that uses it. All
            data sets by default.
        home: the home folder; by default `TUNER_HOME`, or else `.tuner`.

    Raises:
        UsageError: there is no such data set or study, or a record is damaged.
        UnavailableError: the database does not answer.
    """
    from tuner.storage.opening import open_database
    from tuner.storage.test_set_accesses import find_accesses

    with open_database(home or Home.from_environment()) as database:
        return find_accesses(database, wanted)


def _told(notify: Notify) -> Callable[[str], None]:
    """Sends texts as events."""
    return lambda text: notify(SetupStep(text))
