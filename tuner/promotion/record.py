"""Writes a promotion's evidence into the run of its trial."""

import json
import time
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from tuner.promotion.candidate import Candidate
from tuner.promotion.evidence import Evidence
from tuner.promotion.gates import GateResult

if TYPE_CHECKING:
    from mlflow import MlflowClient

FOLDER = "promotion"
"""Where the evidence lies among the run's artifacts."""


def record_evidence(
    client: "MlflowClient",
    candidate: Candidate,
    evidence: Evidence,
    results: Sequence[GateResult],
) -> None:
    """Logs metrics, the evidence as JSON and the confusion matrix; status and times stay.

    A metric keeps the one point it has; the artifacts are those of the newest promotion.
    """
    from mlflow.entities import Metric

    logged = client.get_run(candidate.run_id).data.metrics
    now_ms = time.time_ns() // 1_000_000
    metrics = [
        Metric(name, value, now_ms, 0)
        for name, value in evidence.metrics.items()
        if name not in logged
    ]
    client.log_batch(candidate.run_id, metrics=metrics)
    with TemporaryDirectory() as folder:
        _write(Path(folder), candidate, evidence, results)
        client.log_artifacts(candidate.run_id, folder, FOLDER)


def _write(
    folder: Path, candidate: Candidate, evidence: Evidence, results: Sequence[GateResult]
) -> None:
    from tuner.tracking.figures import confusion_figure

    document = {
        "study": candidate.study,
        "trial": candidate.number,
        "model_sha256": candidate.model_sha256,
        "dataset": {"name": candidate.dataset.name, "digest": candidate.dataset.digest},
        "metrics": evidence.metrics,
        "gates": [result.model_dump() for result in results],
        "test": evidence.test.model_dump(mode="json"),
    }
    (folder / "evidence.json").write_text(json.dumps(document, indent=2))
    title = f"{candidate.study}, trial {candidate.number}"
    (folder / "confusion_matrix.png").write_bytes(
        confusion_figure(evidence.test, title, rows="test")
    )
