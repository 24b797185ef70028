"""Trainers on a Ray cluster of two nodes, one of which is lost."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient
from ray.cluster_utils import Cluster

from tests.faults.conftest import RUN, Place, eventually, reached

FAULTS = Path(__file__).parent


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """A head with room for one trainer; every process of it trains with the engine of NumPy."""
    path = [str(FAULTS / "site"), str(FAULTS), os.environ.get("PYTHONPATH", "")]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", os.pathsep.join(filter(None, path)))
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        nodes = Cluster(initialize_head=True, head_node_args=_node())
        yield nodes
        nodes.shutdown()


def _node() -> dict[str, Any]:
    return {"num_cpus": 1, "num_gpus": 0, "include_dashboard": False}


def on(cluster: Any, *options: str) -> tuple[str, ...]:
    return (*RUN, "--on", "ray", "--address", cluster.address, *options)


def test_a_lost_node_costs_attempts_and_no_trial(place: Place, cluster: Any) -> None:
    place.write_study(trials=4, epochs=8, space={"pause_s": 0.05}, workers="auto")
    node = cluster.add_node(num_cpus=1, num_gpus=0)
    driver = place.start(command=on(cluster))
    eventually(reached(place, epoch=3, slot=0))
    eventually(reached(place, epoch=3, slot=1))
    cluster.remove_node(node, allow_graceful=False)
    assert driver.wait(120) == 0

    place.check(trials=4)
    outcomes = [place.outcomes(slot) for slot in range(4)]
    assert sorted(outcomes) == [["completed"]] * 3 + [["lost", "completed"]]
    slot = outcomes.index(["lost", "completed"])
    second = [run for run in place.runs() if run.data.tags["tuner.slot"] == str(slot)][1]
    history = MlflowClient(place.tracking_uri).get_metric_history(second.info.run_id, "loss")
    assert min(point.timestamp for point in history) < second.info.start_time, "begins anew"
    assert "its node was lost" in place.said()


def test_a_driver_that_is_told_to_end_frees_the_cluster(place: Place, cluster: Any) -> None:
    place.write_study(trials=2, epochs=12, space={"pause_s": 0.05})
    driver = place.start(command=on(cluster))
    eventually(reached(place, epoch=2))
    driver.send_signal(signal.SIGTERM)
    assert driver.wait(30) == 143
    assert place.outcomes() == ["interrupted"]
    assert place.run(command=on(cluster)) == 0
    place.check(trials=2)
    assert place.outcomes() == ["interrupted", "completed"]


def test_a_cluster_that_is_not_there_or_has_no_room_is_named(place: Place, cluster: Any) -> None:
    place.write_study(trials=1, workers="auto")
    assert place.run(command=on(cluster, "--num-gpus", "0.5")) == 3
    assert "no node of the cluster has 1 CPU and 0.5 GPU for a trainer" in place.said()
    assert place.run(command=(*RUN, "--on", "ray", "--address", "127.0.0.1:9")) == 3
    assert "no cluster at 127.0.0.1:9: Connection refused" in place.said()
    assert place.run(command=(*RUN, "--on", "ray", "--address", "ray://127.0.0.1:9")) == 2
    assert "--address: must be HOST:PORT, got 'ray://127.0.0.1:9'" in place.said()
