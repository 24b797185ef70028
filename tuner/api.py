"""The Python interface: what the commands do, for programs.

Each function imports what it needs when it is called, as commands do.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

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

__all__ = ["evaluate", "load_study", "promote", "run_study"]


def run_study(
    file: str | Path,
    *,
    home: Home | None = None,
    accept_new_code: bool = False,
    notify: Notify = ignore,
    stopped: Callable[[], bool] = lambda: False,
    **overrides: Any,
) -> StudySummary:
    """Runs a study file, or goes on where it stopped.

    Args:
        file: the study file, YAML.
        home: the state folder; `TUNER_HOME` or `.tuner` when left out.
        accept_new_code: go on though the user's code has changed since the study began, and
            record from which trial on.
        notify: hears of every step, trial and epoch.
        stopped: asked at least every half second; True hands everything back and returns.
        overrides: top-level keys of the file and what they are instead, such as `trials=3`.

    Raises:
        TunerError: as `tuner.errors` lays out.
    """
    from tuner.driver.session import run_study as run
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
    """Judges the best point's trial on the test set and, if all is well, registers it.

    Of several seeds the one in the middle by validation stands for the point, never the luckiest.

    All is well when every gate passes and the champion is not better by more than 0.002 of
    accuracy on the same test rows. Every look at the test set is counted before it is opened.

    Args:
        study: its name; the newest study with a completed trial when left out.
        trial: a trial's number instead of the best one.
        dry_run: gather the evidence, check the gates, register nothing.
        replace: take the place of a champion that is better or cannot be compared too.
        file: the study file whose registered model and gates count; when left out, those that
            the study was last run with.
        home: the state folder; `TUNER_HOME` or `.tuner` when left out.
        say: hears each step in a line.

    Raises:
        RefusedError: nothing stands for promotion, its run is deleted, the champion cannot be
            compared, or the study file was edited since the study was last run.
        ModelError: the model is missing, damaged, not trusted or not the one that was validated.
        UnavailableError: the database or MLflow does not answer.
    """
    from tuner.promotion.nomination import newest_study, nominate
    from tuner.promotion.terms import terms

    place = home or Home.from_environment()
    with load_study(study, place) if study else newest_study(place) as opened:
        candidate = nominate(opened, trial)
        say(f"study {opened.name}: {_nominated(candidate)}")
        promotion = terms(opened.record, None if file is None else Path(file), say)
        from tuner.promotion.promote import promote as judge  # once there is one to judge

        return judge(
            candidate.model_copy(update={"promotion": promotion}),
            TrackingSettings.from_environment(place.root),
            place,
            opened.test_set_accesses,
            opened.registrations,
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
    """Scores trials on the test set and changes nothing but the count of looks.

    Every model is fetched, loaded and checked before the set is opened for the first.

    Args:
        study: its name.
        trial: a completed trial's number; the best one when left out.
        every: score each completed trial whose model is kept, one look each.
        home: the state folder; `TUNER_HOME` or `.tuner` when left out.
        heard: hears of each trial's evaluation as it comes.

    Returns:
        The evaluation by trial number, the best trial by validation first.

    Raises:
        RefusedError: no such trial has completed, or its run is deleted.
        ModelError: a model is missing, damaged, not trusted or not the one that was validated;
            the other trials have been scored, and `heard` has heard of them.
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


def _nominated(candidate: "Candidate") -> str:
    """The trial and, where it stands for several seeds, what they come to."""
    trial = f"trial {candidate.number}, {candidate.metric} {candidate.value:.4f}"
    point = candidate.point
    if point is None or point.std is None:
        return trial
    return (
        f"{trial}, in the middle of {point.completed} seeds of point {point.point} "
        f"(mean {point.mean:.4f}, standard deviation {point.std:.4f})"
    )
