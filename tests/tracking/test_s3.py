"""Artifacts on S3: an MLflow server that keeps them in a server that speaks S3."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient

from tests.tracking.recorder import Recorder
from tests.tracking.servers import Server, free_port
from tests.waiting import LONGEST_S, wait_until
from tuner.errors import ExitCode
from tuner.tracking.runs.attempt_run import MODEL_ARTIFACT
from tuner.tracking.shipping.shipper import Shipper

BUCKET = "experiments"
MODEL = os.urandom(300_000)


@pytest.fixture
def s3(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A client of an S3 server process with one bucket, which MLflow finds by its environment."""
    import boto3  # here, since every process of pytest collects this file
    from botocore.exceptions import BotoCoreError, ClientError

    port = free_port()
    address = f"http://127.0.0.1:{port}"
    for name, value in {
        "AWS_ACCESS_KEY_ID": "key",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "AWS_DEFAULT_REGION": "us-east-1",
        "MLFLOW_S3_ENDPOINT_URL": address,
    }.items():
        monkeypatch.setenv(name, value)
    with (tmp_path / "s3.log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "moto.server", "--host", "127.0.0.1", "--port", str(port)],
            stdout=log,
            stderr=log,
        )
    client = boto3.client("s3", endpoint_url=address)

    def has_bucket() -> bool:
        try:
            client.create_bucket(Bucket=BUCKET)
        except (BotoCoreError, ClientError):
            return False
        return True

    wait_until(has_bucket)
    yield client
    process.kill()
    process.wait()
    client.close()


@pytest.mark.slow
def test_models_and_tables_reach_a_bucket_through_the_server(
    s3: Any, stopped_server: Server, recorder: Recorder, tmp_path: Path
) -> None:
    recorder.parent(recorder.opened())
    recorder.attempt(
        0, 0, recorder.started(0), recorder.epoch(1), recorder.kept(MODEL), recorder.ended()
    )
    recorder.parent(recorder.closed())
    stopped_server.artifacts = f"s3://{BUCKET}/mlflow"
    stopped_server.start()
    shipper = Shipper(recorder.folder, stopped_server.settings)
    assert shipper.finish(lambda: LONGEST_S) == ExitCode.OK

    stored = {each["Key"]: each["Size"] for each in s3.list_objects_v2(Bucket=BUCKET)["Contents"]}
    (model,) = [key for key in stored if key.endswith(MODEL_ARTIFACT)]
    assert stored[model] == len(MODEL)
    client = MlflowClient(stopped_server.settings.uri)
    experiment = client.get_experiment_by_name(stopped_server.settings.experiment)
    (run,) = client.search_runs([experiment.experiment_id], "attributes.run_name = 'trial 0'")
    fetched = client.download_artifacts(run.info.run_id, MODEL_ARTIFACT, str(tmp_path))
    assert Path(fetched).read_bytes() == MODEL
