"""The Python interface: the same functions as the commands, for programs.

Each function imports what it needs when it is called.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tuner.errors import RefusedError
from tuner.home import Home
from tuner.spec.text.reader import read_study
from tuner.study.driver_events import Notify, ignore
from tuner.study.study import load_study
from tuner.study.summary import StudySummary
from tuner.tracking.settings import TrackingSettings
from tuner.training.plan import Evaluation

if TYPE_CHECKING:
    from tuner.promotion.candidate import Candidate
    from tuner.promotion.report import PromotionReport
    from tuner.study.confirmation import ConfirmationReport

__all__ = ["confirm", "evaluate", "load_study", "promote", "run_study"]


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

    Args:
        file: the study file, YAML.
        home: the home folder; by default `TUNER_HOME`, or else `.tuner`.
        accept_new_code: resume although the user's code has changed, and record the first trial
            that the new code trains.
        notify: receives an event for each step, trial and epoch.
        stopped: is called at least every half second; True interrupts all trials and returns.
        overrides: new values for top-level keys of the file, such as `trials=3`.

    Returns:
        The summary of the study, complete or stopped.

    Raises:
        TunerError: see `tuner.errors`.
    """
    from tuner.driver.run_study import run_study as run
    from tuner.study.study_file import StudyFile

    path = Path(file)
    changes = tuple(f"{key}={json.dumps(value)}" for key, value in overrides.items())
    study_file = StudyFile(read_study(path, changes), str(path), (path.parent,), changes)
    place = home or Home.from_environment()
    return run(
        study_file,
        place,
        accept_new_code=accept_new_code,
        notify=notify,
        stopped=stopped,
    )


def confirm(
    study: str,
    *,
    home: Home | None = None,
    notify: Notify = ignore,
    stopped: Callable[[], bool] = lambda: False,
    **rules: Any,
) -> "ConfirmationReport":
    """Races a study's best points against its baseline, with fresh seeds, or resumes the race.

    Each block trains every point that is still in the race once, on a seed and validation rows
    that the block shares. Points that fall behind are left out. The race ends when what is left
    is decided, or `max_seeds` is reached.

    Args:
        study: its name. The confirmation is a study too, `STUDY-confirmation`.
        home: the home folder; by default `TUNER_HOME`, or else `.tuner`.
        notify: receives an event for each step, trial and epoch.
        stopped: is called at least every half second; True interrupts all trials and returns.
        rules: `finalists`, `max_seeds`, `margin` and `level`, instead of those in the study file.
            A race that has begun may get another `max_seeds`, and keeps the others.

    Returns:
        What was found, complete or stopped.

    Raises:
        RefusedError: there is nothing to confirm.
        SpecError: a rule is invalid, or the race began with other rules or points.
        TunerError: as for `run_study`.
    """
    from tuner.driver.run_study import run_study as run
    from tuner.study.confirmation import confirmation_of, find_report

    place = home or Home.from_environment()
    with load_study(study, place) as opened:
        run(confirmation_of(opened, rules), place, notify=notify, stopped=stopped)
        found = find_report(opened)
        assert found is not None, "the race has begun"
        return found


def promote(
    study: str | None = None,
    *,
    trial: int | None = None,
    dry_run: bool = False,
    replace: bool = False,
    file: str | Path | None = None,
    home: Home | None = None,
    say: Callable[[str], None] = lambda _text: None,
) -> "PromotionReport":
    """Tests the best point's trial on the test set, and registers its model if it passes.

    The best point is the one that the study's confirmation chose, if that is over. With several
    seeds, the median trial by validation represents the point, never the best.

    The trial passes if every gate passes. Those against the champion compare the two models'
    answers to the same test rows. Each access to the test set is recorded before it happens.

    Args:
        study: its name; by default the newest study with a completed trial.
        trial: the number of the trial to promote instead of the best one.
        dry_run: test the model and check the gates, but register nothing.
        replace: waive the gates against the champion, also where it cannot be compared.
        file: the study file with the model name and gates; by default those of the last run.
        home: the home folder; by default `TUNER_HOME`, or else `.tuner`.
        say: receives a line for each step.

    Returns:
        What was measured, and whether the model was registered.

    Raises:
        RefusedError: no trial can be promoted, its run is deleted, the champion cannot be
            compared, or the study file was edited since the last run.
        UsageError: there is no such study.
        ModelError: the model is missing, damaged, not trusted or not the validated one.
        UnavailableError: the database or MLflow does not answer.
    """
    from tuner.promotion.nomination import newest_study, nominate
    from tuner.promotion.terms import terms
    from tuner.study.confirmation import chosen_training, find_confirmation

    place = home or Home.from_environment()
    with load_study(study, place) if study else newest_study(place) as opened:
        race = opened.spec.race
        if race is not None:
            raise RefusedError(
                f"{opened.name} is a confirmation; promote its study: "
                f"tuner promote best {race.study}"
            )
        chosen = chosen_training(opened) if trial is None else None
        if chosen is None and trial is None and find_confirmation(opened) is not None:
            say(
                f"the confirmation of {opened.name} is not over and does not count yet; resume it "
                f"with: tuner confirm {opened.name}"
            )
        owner, number = chosen or (opened, trial)
        candidate = nominate(owner, number)
        say(f"study {owner.name}: {_nominated(candidate, is_chosen=chosen is not None)}")
        promotion = terms(opened.record, None if file is None else Path(file), say)
        from tuner.promotion.promote import promote as judge  # slow to import

        return judge(
            candidate.model_copy(update={"promotion": promotion}),
            TrackingSettings.from_environment(place.root),
            place,
            owner.test_set_accesses,
            owner.registrations,
            dry_run=dry_run,
            replace=replace,
            say=say,
        )


def evaluate(
    study: str,
    *,
    trial: int | None = None,
    every: bool = False,
    home: Home | None = None,
    heard: Callable[[int, Evaluation], None] = lambda _trial, _evaluation: None,
) -> dict[int, Evaluation]:
    """Scores trials on the test set. Changes nothing except the record of accesses.

    All models are downloaded, loaded and checked before the test set is opened.

    Args:
        study: its name.
        trial: the number of a completed trial; by default the best one.
        every: score each completed trial whose model is kept, with one access each.
        home: the home folder; by default `TUNER_HOME`, or else `.tuner`.
        heard: receives each trial's evaluation at once.

    Returns:
        The evaluation by trial number, the best trial by validation first.

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
    found: dict[int, Evaluation] = {}

    def hear(number: int, evaluation: Evaluation) -> None:
        found[number] = evaluation
        heard(number, evaluation)

    with load_study(study, place) as opened:
        numbers = kept_trials(opened) if every else [trial]
        tracking = TrackingSettings.from_environment(place.root)
        evaluate_trials(opened, numbers, tracking, place, hear)
    return found


def _nominated(candidate: "Candidate", *, is_chosen: bool) -> str:
    """Describes the trial and, with several seeds, its point."""
    trial = f"trial {candidate.number}, {candidate.metric} {candidate.value:.4f}"
    if is_chosen:
        return f"{trial}, the median training of the point that the confirmation chose"
    point = candidate.point
    if point is None or point.std is None:
        return trial
    return (
        f"{trial}, the median of {point.completed} seeds of point {point.point} "
        f"(mean {point.mean:.4f}, standard deviation {point.std:.4f})"
    )
