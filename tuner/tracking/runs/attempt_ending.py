"""What a run gets at the end of its attempt: best values, timings, figures, the log."""

from collections.abc import Sequence

from tuner.tracking.runs.exports import confident_errors_csv
from tuner.tracking.runs.figures import ConfusionFigure, CurvesFigure
from tuner.tracking.runs.run_update import Artifact, Point
from tuner.tracking.spool.spool_events import AttemptEnded
from tuner.training.output import excerpt
from tuner.training.plan import EpochReport, Evaluation, Outcome, TrialResult

CURVES_ARTIFACT = "curves.png"
CONFUSION_ARTIFACT = "confusion_matrix.png"


def ending_points(event: AttemptEnded) -> tuple[Point, ...]:
    """The metrics with one value for the attempt, all at step 0."""
    if event.result is None:
        return ()
    values = {**_best_values(event.result), **_cost_values(event.result)}
    return tuple(Point(key, value, event.at_ms) for key, value in values.items())


def _best_values(result: TrialResult) -> dict[str, float]:
    if result.best is None:
        return {}
    best = {**_macro_values(result.evaluation), **result.best.metrics}
    return {"best_epoch": result.best.epoch} | {f"best_{key}": best[key] for key in best}


def _macro_values(evaluation: Evaluation | None) -> dict[str, float]:
    """Macro averages that the epochs' own metrics lack; those have macro F1."""
    if evaluation is None:
        return {}
    macro = evaluation.macro
    return {"val_macro_precision": macro.precision, "val_macro_recall": macro.recall}


def _cost_values(result: TrialResult) -> dict[str, float]:
    timings = result.timings
    values: dict[str, float] = {
        "build_time_s": timings.build_s,
        "train_time_s": timings.train_s,
        "validation_time_s": timings.validation_s,
        "total_time_s": timings.total_s,
        "peak_memory_mb": result.peak_memory_mb,
        "epochs_trained": len(result.epochs),
    }
    if result.model is not None:
        values["parameters"] = result.model.parameters
    return values


def ending_tags(event: AttemptEnded) -> dict[str, str]:
    """The outcome, its reason, and remarks on the training."""
    tags: dict[str, str] = {"tuner.state": event.outcome.value}
    if event.reason:
        tags["tuner.reason"] = event.reason
    if event.result and event.result.remarks:
        tags["tuner.remarks"] = "\n".join(event.result.remarks)
    error = event.result.error if event.result else None
    if error is not None:
        tags["tuner.error"] = f"{error.type}: {error.message}"
    elif event.outcome is Outcome.FAILED:
        tags["tuner.error"] = event.reason or "the trainer ended without a result"
    return tags


def ending_artifacts(
    event: AttemptEnded, epochs: Sequence[EpochReport], name: str
) -> tuple[Artifact, ...]:
    """Figures and texts of the whole attempt.

    Args:
        event: the end.
        epochs: every epoch that the attempt trained.
        name: the run's name, for titles.
    """
    artifacts: list[Artifact] = []
    result = event.result
    if epochs:
        best = result.best_epoch if result else None
        artifacts.append(Artifact(CURVES_ARTIFACT, CurvesFigure(epochs, best, name)))
    if result and result.evaluation:
        confusion = ConfusionFigure(result.evaluation, name)
        artifacts.append(Artifact(CONFUSION_ARTIFACT, confusion))
        if result.confident_errors is not None:
            classes = [scores.label for scores in result.evaluation.classes]
            table = confident_errors_csv(result.confident_errors, classes)
            artifacts.append(Artifact("confident_errors.csv", table))
    if result and result.error:
        artifacts.append(Artifact("error.txt", result.error.traceback))
    if event.log is not None and event.log.exists():
        log = excerpt(event.log, f"all is in {event.log}")
        artifacts += [Artifact("output.log", log)] if log else []
    return tuple(artifacts)
