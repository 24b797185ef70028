"""Evaluation: scores trials on the test set, which is opened after all of them are checked."""

from collections.abc import Callable, Sequence
from pathlib import Path

from tuner.errors import ModelError, RefusedError, TunerError
from tuner.home import Home
from tuner.inference.keras_start import start_keras
from tuner.inference.predictor import Predictor
from tuner.promotion.candidate import Candidate
from tuner.promotion.judging.evidence import HeldOut
from tuner.promotion.judging.kept_model import fetch_kept, load_kept, load_model
from tuner.promotion.judging.test_set_use import TestSetUse, use_of
from tuner.promotion.nomination import nominate
from tuner.study.study import Study
from tuner.tracking.mlflow.connection import connected
from tuner.tracking.settings import TrackingSettings
from tuner.training.plan import Evaluation

_ITS_OWN = ModelError, RefusedError
"""Errors of one trial alone; any other error ends the command."""


class TestEvaluation(Evaluation):
    """A trial's answers to the test images; `confusion[true][predicted]` counts images."""

    test_set_use: TestSetUse
    """Which access to the test set scored the trial."""


def evaluate_trials(
    study: Study,
    numbers: Sequence[int | None],
    settings: TrackingSettings,
    home: Home,
    report: Callable[[int, TestEvaluation], None],
) -> None:
    """Scores trials on the test set, with one access for each.

    Every model is fetched, loaded and compared with its validation figures before the test set is
    opened for the first one. Models that fail are named at the end, after the others are scored.

    Args:
        study: the trials' study.
        numbers: the trials' numbers; None is the median one of the best point.
        settings: the MLflow that has their runs.
        home: the state folder, for the model cache.
        report: receives each trial's number and evaluation as it comes.

    Raises:
        ModelError, RefusedError: trials whose models are missing, deleted, damaged or other
            networks than the ones that were validated; all others have been scored.
        DataError: the data set is not available.
        UnavailableError: MLflow does not answer.
    """
    failed: dict[int | None, TunerError] = {}
    checked: list[tuple[Candidate, Path]] = []
    for number in numbers:
        try:
            checked.append(_checked(nominate(study, number), settings, home))
        except _ITS_OWN as error:
            failed[number] = error
    for candidate, file in checked:
        # Loaded once more, since all of them at once may not fit into memory.
        predictor = Predictor(load_model(candidate, file), candidate.pixels)
        rows = HeldOut(candidate.dataset, study.test_set_accesses, candidate.number, "evaluate")
        report(candidate.number, _scored(rows, predictor, candidate.model_sha256))
    if failed:
        raise _summed_up(failed, len(numbers))


def _checked(
    candidate: Candidate, settings: TrackingSettings, home: Home
) -> tuple[Candidate, Path]:
    with connected(settings) as client:
        file = fetch_kept(client, candidate, home.root)
    start_keras(home.root, candidate.backend)
    load_kept(candidate, file)
    return candidate, file


def _scored(rows: HeldOut, predictor: Predictor, sha256: str) -> TestEvaluation:
    found = rows.score(predictor, sha256)
    return TestEvaluation(**dict(found), test_set_use=use_of(rows, sha256, found.accuracy))


def _summed_up(failed: dict[int | None, TunerError], count: int) -> TunerError:
    first = next(iter(failed.values()))
    if count == 1:
        return first
    lines = [f"trial {number}: {error}" for number, error in failed.items()]
    return type(first)("\n".join([f"{len(failed)} of {count} trials were not scored:", *lines]))
