"""Files that do not arrive at once: uploads that are cut, an artifact store that is full."""

import os
import socket
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from mlflow import MlflowClient

from tests.disks import fill, small_disk
from tests.proxy import Proxy
from tests.tracking.recorder import Recorder
from tests.tracking.servers import Server
from tests.waiting import LONGEST_S, wait_until
from tuner.errors import ExitCode
from tuner.tracking.runs.attempt_run import MODEL_ARTIFACT
from tuner.tracking.settings import TrackingSettings
from tuner.tracking.shipping.shipper import Shipper

MODEL = os.urandom(3_000_000)


@pytest.fixture
def recorded(recorder: Recorder) -> Recorder:
    """A study of one trial whose model is kept."""
    recorder.parent(recorder.opened())
    recorder.attempt(
        0,
        0,
        recorder.started(0),
        *(recorder.epoch(number) for number in (1, 2, 3)),
        recorder.kept(MODEL),
        recorder.ended(),
    )
    recorder.parent(recorder.closed())
    return recorder


@pytest.fixture
def crowded(stopped_server: Server) -> Iterator[tuple[Server, Path]]:
    """A server whose artifacts lie on a small disk, and that disk."""
    with small_disk(stopped_server.folder / "artifacts", "8m") as disk:
        stopped_server.start()
        yield stopped_server, disk
        stopped_server.stop()


def model_of(settings: TrackingSettings, folder: Path) -> bytes:
    client = MlflowClient(settings.uri)
    experiment = client.get_experiment_by_name(settings.experiment)
    (run,) = client.search_runs([experiment.experiment_id], "attributes.run_name = 'trial 0'")
    assert run.info.status == "FINISHED"
    folder.mkdir()
    return Path(
        client.download_artifacts(run.info.run_id, MODEL_ARTIFACT, str(folder))
    ).read_bytes()


@pytest.mark.slow
def test_an_upload_that_is_cut_at_half_is_sent_again(
    recorded: Recorder, server: Server, tmp_path: Path
) -> None:
    settings = replace(server.settings, experiment="cut")
    with Proxy(lambda: socket.create_connection(("127.0.0.1", server.port))) as proxy:
        proxy.longest = len(MODEL) // 2
        shipper = Shipper(recorded.folder, replace(settings, uri=f"http://127.0.0.1:{proxy.port}"))
        wait_until(lambda: "is held up" in shipper.log.read_text())
        proxy.longest = None
        assert shipper.finish(lambda: LONGEST_S) == ExitCode.OK
    assert model_of(settings, tmp_path / "fetched") == MODEL


@pytest.mark.slow
def test_what_a_full_artifact_store_does_not_take_arrives_once_there_is_room(
    recorded: Recorder, crowded: tuple[Server, Path], tmp_path: Path
) -> None:
    server, disk = crowded
    filler = fill(disk)
    shipper = Shipper(recorded.folder, server.settings)
    wait_until(lambda: "events wait in the spool" in shipper.log.read_text())
    filler.unlink()
    assert shipper.finish(lambda: LONGEST_S) == ExitCode.OK
    assert model_of(server.settings, tmp_path / "fetched") == MODEL
