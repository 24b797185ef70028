"""Repeats a recorded training from its record, with the trainer process that every trial has."""

from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory

from tuner.code import changed_files, difference
from tuner.datasets.prepare import prepare_apart
from tuner.datasets.store import DatasetInfo
from tuner.driver.plans import Planner, precision_of
from tuner.errors import DataError, UnavailableError, UsageError
from tuner.home import Home
from tuner.study.code_folders import folders_here
from tuner.study.study import Study
from tuner.training.engines.backends import check_installed
from tuner.training.plan import (
    EpochEnded,
    EpochReport,
    ModelPlan,
    Outcome,
    TrainerInfo,
    TrialPlan,
    TrialResult,
)
from tuner.verification.comparison import Verification, compare
from tuner.verification.noise import spread_of
from tuner.verification.record import RecordedTraining, read_record
from tuner.workers.devices import single
from tuner.workers.local_pool import LocalPool
from tuner.workers.messages import Described
from tuner.workers.pool import Finished, Lost, Reported, TrainerPool

Say = Callable[[str], None]

_ROUND_S = 0.5
_MODEL_FILES = "tuner-verify-"
"""The prefix of the folder for the repetition's files, which is deleted at the end."""


def verify(study: Study, home: Home, number: int | None, say: Say) -> Verification:
    """Repeats the training of a trial from its record, and compares the two.

    The study, its spools and MLflow are only read. The repetition trains on as many threads as the
    recorded training had, from its first epoch, also if that was resumed.

    Args:
        study: the study.
        home: the home with the prepared data sets, and with the spool if it trained the trial.
        number: the trial's number; None is the trial that represents the best point.
        say: receives a line for each step and epoch.

    Raises:
        UsageError: there is no such trial, its code has changed, or its row was changed, not by
            tuner.
        RefusedError: the trial has neither completed nor been pruned.
        DataError: the data set is not available here, or has changed.
        ModelError: the model cannot be built.
        UnavailableError: no trainer starts here, or it died.
    """
    recorded = read_record(study, home, number)
    check_installed(study.spec.backend)
    dataset = _dataset(study, home, say)
    say(f"loading {study.spec.model} in a trainer")
    with (
        TemporaryDirectory(prefix=_MODEL_FILES) as folder,
        closing(_pool(study, recorded.trainer, Path(folder))) as pool,
    ):
        path = folders_here(study.record.code_path)
        model = ModelPlan(name=study.spec.model, code_path=path)
        described = pool.describe(model, study.spec.dataset.name)
        _check_code(study, recorded, described)
        planner = Planner(
            Home(Path(folder)), study.spec, path, dataset, described, precision_of(study.spec)
        )
        plan = planner.plan(recorded.slot, 0, recorded.params)
        trainer, result = _trained(pool, plan, recorded, say)
    metric = study.spec.objective.metric
    return compare(study.name, metric, recorded, trainer, result, spread_of(study))


def _dataset(study: Study, home: Home, say: Say) -> DatasetInfo:
    """Prepares the data set as a run does; what is there already is only checked."""
    reference, recorded = study.spec.dataset, study.record.dataset
    say(f"preparing the data set {reference.name}")
    found = prepare_apart(reference, home.datasets, folders_here(study.record.code_path), say)
    if found.digest != recorded.digest:
        raise DataError(
            f"data set {recorded.name}: {study.name} was trained on digest "
            f"{recorded.digest[:12]}, now it has {found.digest[:12]}, so its training cannot be "
            "repeated; restore the data"
        )
    return found


def _pool(study: Study, recorded: TrainerInfo | None, folder: Path) -> LocalPool:
    """A trainer with the recorded number of threads, or with one if that is not known."""
    kind, threads = ("cpu", None) if recorded is None else (recorded.kind, recorded.threads)
    return LocalPool([single(kind, threads or 1)], folder / "trainer", study.spec.backend)


def _check_code(study: Study, recorded: RecordedTraining, described: Described) -> None:
    version = recorded.code
    if version is None or dict(version.files) == described.code:
        return
    files = ", ".join(changed_files(version.files, described.code))
    raise UsageError(
        f"trial {recorded.number} of {study.name} was trained with other code: {files}\n"
        f"{difference(version.files, described.code)}\n"
        "restore these files to verify it; MLflow has them in the study's run, in "
        f"code/from-trial-{version.from_trial}"
    )


def _trained(
    pool: TrainerPool, plan: TrialPlan, recorded: RecordedTraining, say: Say
) -> tuple[TrainerInfo, TrialResult]:
    """Trains the plan, up to the last recorded epoch if the trial was pruned."""
    trainer = pool.submit(plan)
    say(f"repeating trial {recorded.number} on {trainer.device}")
    while True:
        match pool.next_event(_ROUND_S):
            case Reported(event=EpochEnded(report=report)):
                say(_epoch_line(plan, report))
                if recorded.outcome is Outcome.PRUNED and report.epoch >= recorded.epochs:
                    pool.prune(plan)
                else:
                    pool.proceed(plan, report.epoch)
            case Finished(result=result):
                return trainer, result
            case Lost(reason=reason):
                raise UnavailableError(f"the trainer died: {reason}")


def _epoch_line(plan: TrialPlan, report: EpochReport) -> str:
    metric = plan.objective.metric
    return f"epoch {report.epoch}/{plan.epochs}: {metric} {report.metrics[metric]:.4f}"
