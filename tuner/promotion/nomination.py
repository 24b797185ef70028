"""Finds the trial to promote: the median one of a study's best point, or a given one."""

from collections.abc import Callable, Mapping

from tuner.errors import RefusedError
from tuner.home import Home
from tuner.promotion.candidate import Candidate, Validated
from tuner.recovery.sync import sync
from tuner.search.points import split_seed
from tuner.search.ranking import in_order, rank, trainings
from tuner.search.trials import StoredResult, Trials, stored_result
from tuner.storage.code_versions import CodeVersions
from tuner.storage.database import Database
from tuner.storage.opening import open_database
from tuner.storage.studies import Catalog, StudyRecord
from tuner.study.code_folders import folders_here
from tuner.study.study import Study
from tuner.study.summary import StudySummary
from tuner.tracking.spool.spool_events import TrialSummary
from tuner.training.plan import ModelPlan, Outcome
from tuner.words import command

_SHIPPING_S = 300.0
"""How long MLflow is waited for, as in `tuner sync`."""


def nominate(
    study: Study, number: int | None = None, say: Callable[[str], None] = lambda _text: None
) -> Candidate:
    """The trial that represents the best point by validation, or trial `number`.

    If its run is not known yet, as after a Ctrl-C, what this home has recorded is shipped first.

    Args:
        study: the study.
        number: the trial's number.
        say: receives a line for each step.

    Raises:
        UsageError: there is no such trial.
        RefusedError: no trial has completed, this one has not, its run is not known yet, or it
            has no model.
        DataError: the data set is not available on this machine, or has changed.
        UnavailableError: MLflow refuses every run.
    """
    summary = study.summary()
    trial = summary.best_point().trial if number is None else _completed(summary, number)
    if trial.run_id is None:
        sync(study.home, study.name, _SHIPPING_S, say)
        trial = study.summary().trial(trial.number)
    if trial.run_id is None:
        raise _unshipped(study, trial)
    result = stored_result(study.trials.by_slot()[trial.slot])
    if not result.model_sha256:
        raise RefusedError(
            f"trial {trial.number} of {study.name}: its model could not be kept when it ended"
        )
    assert result.value is not None, "a completed trial has a value"
    return Candidate(
        study=study.name,
        study_uid=study.record.uid,
        number=trial.number,
        run_id=trial.run_id,
        params={**study.spec.fixed, **trial.params},
        metric=summary.metric,
        value=result.value,
        point=summary.best if number is None else None,
        validated=_validated(study, trial.slot, result),
        model=ModelPlan(name=study.spec.model, code_path=folders_here(study.record.code_path)),
        backend=study.spec.backend,
        pixels=study.spec.pixels,
        precision="float32" if study.spec.precision == "auto" else study.spec.precision,
        model_sha256=result.model_sha256,
        train_time_s=result.train_time_s,
        dataset=study.dataset(),
        promotion=study.spec.promotion,
    )


def _unshipped(study: Study, trial: TrialSummary) -> RefusedError:
    return RefusedError(
        f"trial {trial.number} of {study.name}: its MLflow run is not known yet; ship it on "
        f"{study.host(trial.slot)}, which trained it: {command('sync', study.name)}; where MLflow "
        f"has the run already: {command('doctor', study.name, options=['--fix'])}"
    )


def kept_trials(study: Study) -> list[int]:
    """The numbers of the completed trials whose models are kept, those of the best point first.

    Raises:
        RefusedError: no trial has completed.
    """
    ranked = rank(study.spec, trainings(study.trials.all()))
    if not ranked:
        raise RefusedError(f"no trial of {study.name} has completed")
    return [training.number for training in in_order(ranked)[: study.spec.keep_models]]


def find_study(home: Home, name: str, uid: str) -> StudyRecord | None:
    """The record of the study that trained a champion; None if this database does not have it.

    `uid` is empty for a champion that an earlier version of tuner registered: then the name counts.
    """
    with open_database(home) as database:
        found = Catalog(database).find(name)
    return found if found is not None and uid in ("", found.uid) else None


def find_code(home: Home, name: str, trial: int) -> Mapping[str, str]:
    """The user's code that trained a trial, text by path; empty if none was recorded."""
    with open_database(home) as database:
        rows = Trials(database, Catalog(database).get(name).spec).all()
        digest = next((stored_result(row).code for row in rows if row.number == trial), "")
        version = CodeVersions(database, name).that_trained(trial, digest)
    return {} if version is None else version.files


def newest_study(home: Home) -> Study:
    """The newest study with a completed trial, other than confirmations and refits.

    Raises:
        RefusedError: there is none.
    """
    database = open_database(home)
    for name in reversed(Catalog(database).names()):
        study = _opened(home, database, name)
        if study.spec.origin is None and study.summary().best is not None:
            return study
    database.close()
    raise RefusedError("nothing to promote: no study here has a completed trial")


def _opened(home: Home, database: Database, name: str) -> Study:
    return Study(home, database, Catalog(database).get(name))


def _validated(study: Study, slot: int, result: StoredResult) -> Validated | None:
    """The validation figures of the best epoch; None if the study has no validation rows."""
    if not study.spec.validation:
        return None
    return Validated(
        rows=study.spec.validation,
        split_seed=split_seed(study.spec, slot),
        loss=result.best_metrics["val_loss"],
        accuracy=result.best_metrics["val_accuracy"],
    )


def _completed(summary: StudySummary, number: int) -> TrialSummary:
    trial = summary.trial(number)
    if trial.state != Outcome.COMPLETED:
        raise RefusedError(f"trial {number} of {summary.study} is {trial.state}")
    return trial
