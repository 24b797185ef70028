"""Promotes a candidate: checks first, evidence and gates next, and only then the registry."""

from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from tuner.errors import RefusedError, TunerError, UnavailableError
from tuner.files import exclusive
from tuner.home import Home
from tuner.inference.keras_start import start_keras
from tuner.promotion.candidate import Candidate
from tuner.promotion.gates import check
from tuner.promotion.judging.comparison import Incumbent, find_incumbent
from tuner.promotion.judging.evidence import HeldOut, complete, prepare
from tuner.promotion.judging.kept_model import fetch_kept, load_kept
from tuner.promotion.judging.reproduction import Reproduction
from tuner.promotion.judging.test_set_use import use_of
from tuner.promotion.registry.card import short_card
from tuner.promotion.registry.publication import PackedModel, check_unmoved, pack, publish
from tuner.promotion.registry.record import (
    check_recordable,
    describe_promotion,
    record_evidence,
)
from tuner.promotion.registry.versions import (
    ALIAS,
    CHALLENGER,
    Alias,
    aliased_version,
    champion_version,
    check_name,
    trial_sha256,
)
from tuner.promotion.report import PromotionReport
from tuner.storage.studies import Registrations
from tuner.storage.test_set_accesses import TestSetAccesses
from tuner.tracking.mlflow.connection import connected
from tuner.tracking.settings import TrackingSettings

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities.model_registry import ModelVersion

Say = Callable[[str], None]


def promote(
    candidate: Candidate,
    settings: TrackingSettings,
    home: Home,
    accesses: TestSetAccesses,
    registrations: Registrations,
    *,
    twin: Candidate | None = None,
    dry_run: bool = False,
    replace: bool = False,
    challenger: bool = False,
    say: Say,
) -> PromotionReport:
    """Judges the candidate on the test rows and, if every gate passes, makes it the champion.

    Everything that can fail is tried before the test set is opened. If a gate fails or it is a dry
    run, the run and the registry stay as they were. Promoting the same trial again finishes an
    interrupted promotion, with the same version.

    Args:
        candidate: the trial.
        settings: the MLflow that has its run and the registry.
        home: the state folder, for the model cache and the promotion lock.
        accesses: the record of accesses to the test set, written before each.
        registrations: the record of what the study has registered.
        twin: a training of the same network with other rows, whose file is held against its
            validation figures where the candidate has none.
        dry_run: stop after gates and comparison.
        replace: waive the gates against the champion, also where it cannot be compared.
        challenger: register it beside the champion, under the alias `challenger`.
        say: receives a line for each step.

    Raises:
        ModelError: the model is missing, damaged, not trusted, does not fit the data set, or is
            another network than the one that was validated; or the registry returns another
            file than it was given.
        RefusedError: the run is deleted, the registry refuses the name, the champion cannot be
            compared, or another promotion moved the alias meanwhile.
        UnavailableError: MLflow does not answer.
    """
    say(f"fetching the model of trial {candidate.number} of {candidate.study}")
    before, file = _fetched(candidate, settings, home, trial_write=not dry_run)
    start_keras(home.root, candidate.backend)
    kept = load_kept(candidate, file)
    reproduced = kept.reproduction or _reproduced(twin, settings, home)
    say(_reproduction_line(reproduced))
    command = "promote --dry-run" if dry_run else "promote"
    rows = HeldOut(candidate.dataset, accesses, candidate.number, command)
    beside = HeldOut(candidate.dataset, accesses, candidate.number, "promote: champion")
    with TemporaryDirectory() as folder:
        packed = pack(candidate, kept, Path(folder))
        incumbent = None
        if before is not None and trial_sha256(before) != candidate.model_sha256:
            waived = say if replace or challenger else None
            incumbent = _incumbent(settings, before, beside, home, waived)
        report = _judged(candidate, packed, rows, incumbent, say)
        report = report.model_copy(
            update={"replace": replace, "challenger": challenger, "validation": reproduced}
        )
        if dry_run or not report.passed:
            return report
        with exclusive(home.root / "promotion.lock"), connected(settings) as client:
            return _registered(client, candidate, packed, report, registrations, before, say)


def _registered(
    client: "MlflowClient",
    candidate: Candidate,
    packed: PackedModel,
    report: PromotionReport,
    registrations: Registrations,
    before: "ModelVersion | None",
    say: Say,
) -> PromotionReport:
    """Records the evidence, registers the model, and moves the alias. `before` was the champion."""
    alias: Alias = CHALLENGER if report.challenger else ALIAS
    named = aliased_version(client, report.model, alias)

    def check_champion() -> None:
        if not report.challenger:
            check_unmoved(client, candidate, before)

    check_champion()
    say("recording the evidence and registering the model")
    record_evidence(client, candidate, report)
    card = short_card(candidate, report)
    version = publish(
        client, candidate, packed, report.metrics, registrations, card, alias, check_champion
    )
    reigning = named is not None and int(named.version) == version
    say(f"{report.model} version {version} {'stays' if reigning else 'is now'} the {alias}")
    update = {"promoted": True, "version": version, "alias": alias, "reigning": reigning}
    report = report.model_copy(update=update)
    describe_promotion(client, candidate, report)
    return report


def _fetched(
    candidate: Candidate, settings: TrackingSettings, home: Home, *, trial_write: bool
) -> "tuple[ModelVersion | None, Path]":
    """The champion's version and the candidate's file, once MLflow is known to accept writes."""
    with connected(settings) as client:
        check_name(client, candidate.promotion.model)
        champion = champion_version(client, candidate.promotion.model)
        check_recordable(client, candidate, trial_write=trial_write)
        return champion, fetch_kept(client, candidate, home.root)


def _reproduced(
    twin: Candidate | None, settings: TrackingSettings, home: Home
) -> Reproduction | None:
    """Holds the file of another training of the candidate's network against its figures."""
    if twin is None:
        return None
    with connected(settings) as client:
        file = fetch_kept(client, twin, home.root)
    return load_kept(twin, file).reproduction


def _reproduction_line(found: Reproduction | None) -> str:
    if found is None:
        return (
            "not checked, since no training with validation images keeps its file: that the file "
            "is the network that was trained"
        )
    return (
        "a file of this network gives the recorded validation figures: accuracy "
        f"{found.accuracy:.4f}, loss {found.loss:.4f}"
    )


def _incumbent(
    settings: TrackingSettings, version: "ModelVersion", rows: HeldOut, home: Home, say: Say | None
) -> Incumbent | None:
    """The champion, ready to answer; None if it cannot, after `say` was told why."""
    try:
        return find_incumbent(settings, version.name, rows, home)
    except UnavailableError:
        raise
    except TunerError as error:  # MLflow has answered before: the champion is at fault
        champion = f"{version.name}@{ALIAS} is version {version.version}"
        why = " ".join(str(error).split())  # MLflow lists its failures in lines
        if say is None:
            raise RefusedError(
                f"{champion}, which cannot be compared: {why}; take its place unseen with --replace"
            ) from error
        say(f"{champion}, which cannot be compared: {why}")
        return None


def _judged(
    candidate: Candidate, packed: PackedModel, rows: HeldOut, incumbent: Incumbent | None, say: Say
) -> PromotionReport:
    """Measures what needs no test row; opens the test set only if all gates on that pass."""
    say("measuring training accuracy and latency")
    groundwork = prepare(candidate, packed.predictor, packed.file, packed.sha256)
    report = PromotionReport(
        model=candidate.promotion.model,
        run_id=candidate.run_id,
        grounds=candidate.grounds,
        metrics=groundwork.metrics,
        gates=check(groundwork.metrics, candidate.promotion.gates),
    )
    if not report.passed:
        return report
    say("opening the test set")
    answers = rows.answers(packed.predictor, candidate.model_sha256)
    evidence = complete(groundwork, answers.evaluation, candidate.dataset.test_count)
    comparison = incumbent and incumbent.compare(answers)
    metrics = evidence.metrics | (comparison.metrics if comparison else {})
    update = {
        "metrics": metrics,
        "gates": check(metrics, candidate.promotion.gates),
        "champion": comparison,
        "test_set_use": use_of(rows, candidate.model_sha256, answers.evaluation.accuracy),
        "evidence": evidence,
    }
    return report.model_copy(update=update)
