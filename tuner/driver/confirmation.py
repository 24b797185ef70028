"""Runs the confirmation of a study: on request, or because the study states claims."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from tuner.home import Home
from tuner.spec.study_spec import AutoOrCount
from tuner.study.confirmation.race_study import begin_confirmation
from tuner.study.confirmation.report import ConfirmationReport, find_report
from tuner.study.study import Study, load_study
from tuner.study.study_file import StudyFile
from tuner.study.summary import StudySummary

Run = Callable[[StudyFile], StudySummary]
"""Runs a study to its end, or until it is stopped."""
Say = Callable[[str], None]


@dataclass(frozen=True)
class Confirmed:
    """A confirmation that was run: complete, or stopped."""

    summary: StudySummary
    """Of the confirmation."""
    report: ConfirmationReport


def run_confirmation(
    study: Study,
    changes: Mapping[str, Any],
    run: Run,
    say: Say,
    workers: AutoOrCount | None = None,
) -> Confirmed:
    """Begins or resumes the confirmation of a study, and runs it.

    Args:
        study: the study.
        changes: rules that replace those of the study file, see `confirmation_of`.
        run: runs the confirmation.
        say: receives what a new one will cost.
        workers: the number of trainers; by default as for the study.

    Raises:
        TunerError: as `confirmation_of` and `run`.
    """
    summary = run(begin_confirmation(study, changes, say).with_workers(workers))
    found = find_report(study)
    assert found is not None, "the race has begun"
    return Confirmed(summary, found)


def decide_claims(
    file: StudyFile, ended: StudySummary, home: Home, run: Run, say: Say
) -> Confirmed | None:
    """Runs the confirmation of a study that was run to its end, if the study states claims.

    Args:
        file: the study.
        ended: its summary.
        home: where it is.
        run: runs the confirmation.
        say: receives what a new one will cost.

    Returns:
        None without claims, if trials are left to run, or if none has completed.

    Raises:
        TunerError: as `run_confirmation`.
    """
    if not file.spec.claims or not ended.done or ended.best is None:
        return None
    with load_study(file.spec.name, home) as study:
        return run_confirmation(study, {}, run, say, file.spec.workers)
