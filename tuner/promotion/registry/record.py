"""Writes a promotion's evidence into its trial's run, after checking that this is possible."""

import json
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from tuner.clock import now_ms
from tuner.errors import RefusedError
from tuner.promotion.candidate import Candidate
from tuner.promotion.judging.comparison import ChampionComparison, Disagreement, Right
from tuner.promotion.judging.evidence import answered_images
from tuner.promotion.registry.card import as_html, model_card
from tuner.promotion.registry.versions import is_missing
from tuner.promotion.report import PromotionReport
from tuner.tracking.descriptions import describe
from tuner.tracking.runs.figures import ConfusionFigure, ImageGroup, ImagesFigure
from tuner.tracking.runs.study_run import KIND_TAG, ROLE_TAG
from tuner.words import count, plain

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

FOLDER = "promotion"
"""The path of the evidence among the run's artifacts."""
_REPORTED = {"grounds", "metrics", "gates", "validation", "champion", "test_set_use"}
_SHOWN = 30
"""The number of images of a kind that the picture of disagreements shows, the first ones."""
_KINDS: dict[Right, str] = {
    "champion": "the champion alone is right",
    "candidate": "the candidate alone is right",
    "neither": "both are wrong",
}
_DELETED = "deleted"
"""MLflow's lifecycle stage of a deleted run or experiment."""


def check_recordable(client: "MlflowClient", candidate: Candidate, *, trial_write: bool) -> None:
    """Checks that the trial's run can be written, before there is anything to write.

    Args:
        client: connected to the store of the run.
        candidate: the trial.
        trial_write: whether to write a file among the run's artifacts and remove it again.

    Raises:
        RefusedError: MLflow has no such run, or the run or its experiment is deleted.
        UnavailableError: the artifact store accepts no file.
    """
    run = _present(client, candidate)
    if not trial_write:
        return
    from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

    store = get_artifact_repository(run.info.artifact_uri)
    with TemporaryDirectory() as folder:
        probe = Path(folder) / f"{FOLDER}-probe"
        probe.touch()
        store.log_artifact(str(probe))
    store.delete_artifacts(probe.name)


def _present(client: "MlflowClient", candidate: Candidate) -> "Run":
    from mlflow.exceptions import MlflowException

    where = f"trial {candidate.number} of {candidate.study}"
    try:
        run = client.get_run(candidate.run_id)
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
        raise RefusedError(
            f"{where}: MLflow has no run {candidate.run_id}: is it another MLflow than the study's "
            "own, or was the run removed for good?"
        ) from error
    experiment = client.get_experiment(run.info.experiment_id)
    if experiment.lifecycle_stage == _DELETED:
        raise RefusedError(
            f"{where}: its MLflow experiment {experiment.name!r} is deleted; restore it with: "
            f"mlflow experiments restore --experiment-id {experiment.experiment_id}"
        )
    if run.info.lifecycle_stage == _DELETED:
        raise RefusedError(
            f"{where}: its MLflow run is deleted; restore it with: "
            f"mlflow runs restore --run-id {candidate.run_id}"
        )
    return run


def record_evidence(client: "MlflowClient", candidate: Candidate, report: PromotionReport) -> None:
    """Logs metrics, the evidence as JSON and the figures; status and times stay.

    A metric gets another point only if its value differs, so that its newest value and the
    artifacts are those of the newest promotion.
    """
    from mlflow.entities import Metric

    logged = client.get_run(candidate.run_id).data.metrics
    at_ms = now_ms()
    metrics = [
        Metric(name, value, at_ms, 0)
        for name, value in report.metrics.items()
        if logged.get(name) != value
    ]
    client.log_batch(candidate.run_id, metrics=metrics)
    with TemporaryDirectory() as folder:
        _write(Path(folder), candidate, report)
        client.log_artifacts(candidate.run_id, folder, FOLDER)


def describe_promotion(
    client: "MlflowClient", candidate: Candidate, report: PromotionReport
) -> None:
    """Tells the run of the study what was promoted, if it still has one."""
    run = _study_run(client, candidate.run_id)
    if run is not None and run.info.lifecycle_stage != _DELETED:
        describe(client, run.info.run_id, "Promotion", _promotion(candidate, report))


def _study_run(client: "MlflowClient", run_id: str) -> "Run | None":
    """The run above a trial's, and above that of its confirmation or refit; None if it is gone.

    A run that a person has put above the study's stays out of it.
    """
    from mlflow.exceptions import MlflowException

    try:
        run = client.get_run(run_id)
    except MlflowException as error:
        if not is_missing(error):
            raise
        return None
    tags = run.data.tags
    is_study = tags.get(KIND_TAG) == "study" == tags.get(ROLE_TAG, "study")
    above = None if is_study else tags.get("mlflow.parentRunId")
    return run if above is None else _study_run(client, above)


def _promotion(candidate: Candidate, report: PromotionReport) -> str:
    """What was promoted, in Markdown."""
    assert report.evidence is not None
    test, interval, grounds = report.evidence.test, report.evidence.interval, candidate.grounds
    what = f"trial {candidate.number} of {plain(candidate.study)}"
    if grounds is not None:
        again = ", trained again on all training images" * grounds.refit
        what = f"point {grounds.point}{again} ({what})"
    return (
        f"**Promoted:** {what}, as version {report.version} of the registered model "
        f"{plain(report.model)}, which became its {report.alias}. Its test accuracy is "
        f"{test.accuracy:.4f} (95% interval {interval.low:.4f} to {interval.high:.4f}); its model "
        f"card is among the artifacts of its run, {candidate.run_id}."
    )


def _write(folder: Path, candidate: Candidate, report: PromotionReport) -> None:
    assert report.evidence is not None
    document = {
        "study": candidate.study,
        "trial": candidate.number,
        "model_sha256": candidate.model_sha256,
        "dataset": {"name": candidate.dataset.name, "digest": candidate.dataset.digest},
        **report.model_dump(mode="json", include=_REPORTED),
        "test": report.evidence.test.model_dump(mode="json"),
    }
    (folder / "evidence.json").write_text(json.dumps(document, indent=2))
    title = f"{candidate.study}, trial {candidate.number}"
    confusion = ConfusionFigure(report.evidence.test, title, rows="test")
    picture = confusion.png()
    (folder / "confusion_matrix.png").write_bytes(picture)
    card = model_card(candidate, report)
    (folder / "card.md").write_text(card)
    (folder / "card.html").write_text(as_html(card, candidate.promotion.model, picture))
    if report.champion is not None and report.champion.disagreements:
        figure = _disagreements(candidate, report.champion, title)
        (folder / "disagreements.png").write_bytes(figure.png())


def _disagreements(
    candidate: Candidate, comparison: ChampionComparison, title: str
) -> ImagesFigure:
    """The images that candidate and champion put into different classes, by who is right."""
    groups = (
        _group(candidate, text, [each for each in comparison.disagreements if each.right == right])
        for right, text in _KINDS.items()
    )
    return ImagesFigure(
        groups=[group for group in groups if group.captions],
        title=(
            f"{title}, and the champion, version {comparison.version}: "
            "true class, the champion's, → the candidate's"
        ),
    )


def _group(candidate: Candidate, kind: str, images: Sequence[Disagreement]) -> ImageGroup:
    shown = images[:_SHOWN]
    some = f", of which the first {len(shown)}" if len(shown) < len(images) else ""
    return ImageGroup(
        title=f"{kind}: {count(len(images), 'image')}{some}",
        images=answered_images(candidate.dataset, [each.row for each in shown]),
        captions=[f"{each.label}\n{each.champion}\n→ {each.candidate}" for each in shown],
    )
