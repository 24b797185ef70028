"""What a store holds after a study was shipped to it, read with MLflow's own client."""

from pathlib import Path
from typing import Any

from mlflow import MlflowClient
from mlflow.artifacts import download_artifacts, list_artifacts

from tuner.tracking.settings import TrackingSettings
from tuner.tracking.shipping.study_shipper import StudyShipper


def ship(folder: Path, settings: TrackingSettings, batches: int = 1_000_000) -> int:
    """Ships until nothing is left or it was told to stop; returns what is left.

    `batches` is how often the shipper may ask whether to go on: before each spool and batch.
    """
    remaining = iter(range(batches))
    shipper = StudyShipper(folder, settings, lambda: next(remaining, None) is not None)
    try:
        while shipper.ship():
            pass
        return shipper.survey().pending
    finally:
        shipper.close()


class Store:
    """What the tests see of MLflow."""

    def __init__(self, settings: TrackingSettings) -> None:
        self.client = MlflowClient(settings.uri)
        self.experiment = self.client.get_experiment_by_name(settings.experiment)
        found = self.client.search_runs([self.experiment.experiment_id])
        self.runs: dict[str, Any] = {run.info.run_name: run for run in found}
        assert len(found) == len(self.runs), "a run was created twice"

    def points(self, name: str, key: str) -> list[tuple[int, float, int]]:
        history = self.client.get_metric_history(self.runs[name].info.run_id, key)
        return sorted((point.step, point.value, point.timestamp) for point in history)

    def artifacts(self, name: str, path: str | None = None) -> set[str]:
        run_id = self.runs[name].info.run_id
        listed = list_artifacts(run_id=run_id, artifact_path=path, tracking_uri=self.uri)
        return {entry.path for entry in listed}

    def file(self, name: str, path: str) -> Path:
        run_id = self.runs[name].info.run_id
        return Path(download_artifacts(run_id=run_id, artifact_path=path, tracking_uri=self.uri))

    def text(self, name: str, path: str) -> str:
        return self.file(name, path).read_text()

    def snapshot(self) -> object:
        """Everything of every run, to compare."""
        return {name: self.snapshot_of(name) for name in self.runs}

    def snapshot_of(self, name: str) -> tuple[Any, ...]:
        run = self.runs[name]
        return (
            run.info.status,
            run.info.start_time,
            run.info.end_time,
            run.data.params,
            run.data.tags,
            {key: self.points(name, key) for key in run.data.metrics},
            self.artifacts(name),
            [each.to_dictionary() for each in run.inputs.dataset_inputs],
        )

    @property
    def uri(self) -> str:
        return str(self.client.tracking_uri)

    def has_one_point_a_step(self) -> bool:
        return all(
            len({step for step, _, _ in points}) == len(points)
            for name, run in self.runs.items()
            for points in (self.points(name, key) for key in run.data.metrics)
        )


def forget_progress(folder: Path) -> None:
    for path in folder.rglob("shipped.json"):
        path.unlink()
