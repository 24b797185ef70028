"""Trainers on a Ray cluster of two nodes, one of which is lost."""

import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from mlflow import MlflowClient

from tests.faults.conftest import RUN, Place, eventually, python_path, reached
from tuner.workers import trainer


@pytest.fixture(scope="module")
def scratch() -> Iterator[Path]:
    """Where nodes keep what is temporary; short, since Ray puts sockets there."""
    with tempfile.TemporaryDirectory(prefix="ray", ignore_cleanup_errors=True) as folder:
        yield Path(folder)


@pytest.fixture(scope="module")
def cluster(scratch: Path) -> Iterator[Any]:
    """A head with room for one trainer; every process of it trains as the tests do."""
    from ray.cluster_utils import Cluster  # seconds, in every process that collects this file

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", python_path())
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        patch.setenv("TMPDIR", str(scratch))
        nodes = Cluster(initialize_head=True, head_node_args=_node())
        yield nodes
        nodes.shutdown()


def _node() -> dict[str, Any]:
    return {"num_cpus": 1, "num_gpus": 0, "include_dashboard": False}


def trainers_on(scratch: Path) -> list[int]:
    """The processes that train on the cluster."""
    found = []
    for process in psutil.process_iter(["cmdline", "environ"]):
        trains = trainer.__name__ in (process.info["cmdline"] or [])
        if trains and (process.info["environ"] or {}).get("TMPDIR") == str(scratch):
            found.append(process.pid)
    return found


def on(cluster: Any, *options: str) -> tuple[str, ...]:
    return (*RUN, "--on", "ray", "--address", cluster.address, *options)


@pytest.mark.slow
def test_a_lost_node_costs_attempts_and_no_trial(place: Place, cluster: Any) -> None:
    place.write_study(trials=2, epochs=20, space={"pause_s": 0.05}, workers="auto")
    node = cluster.add_node(num_cpus=1, num_gpus=0)
    driver = place.start(command=on(cluster))
    for slot in (0, 1):
        eventually(reached(place, epoch=3, slot=slot))
    assert place.outcomes(0) == place.outcomes(1) == [None], "both are trained at once"
    cluster.remove_node(node, allow_graceful=False)
    assert driver.wait() == 0

    place.check(trials=2)
    outcomes = [place.outcomes(slot) for slot in (0, 1)]
    assert sorted(outcomes) == [["completed"], ["lost", "completed"]]
    slot = outcomes.index(["lost", "completed"])
    second = [run for run in place.runs() if run.data.tags["tuner.slot"] == str(slot)][1]
    history = MlflowClient(place.tracking_uri).get_metric_history(second.info.run_id, "loss")
    assert min(point.timestamp for point in history) < second.info.start_time, "begins anew"
    assert "its actor was lost, maybe with its node" in place.said()


@pytest.mark.slow
def test_drivers_that_end_or_die_free_the_cluster_and_the_next_goes_on(
    place: Place, cluster: Any, scratch: Path
) -> None:
    """The trial after theirs hangs, which costs it an attempt as on any machine.

    All print much, of which the cluster carries head and tail.
    """
    misfortune = {"misfortune": "hangs", "strikes_in": 3, "prints": 300_000}
    place.write_study(trials=2, epochs=6, space={"pause_s": 0.05, **misfortune}, epoch_limit_s=5)
    for number, code in ((signal.SIGTERM, 143), (signal.SIGKILL, -signal.SIGKILL)):
        driver = place.start(command=on(cluster))
        eventually(lambda: None in place.outcomes())
        eventually(lambda: trainers_on(scratch))
        driver.send_signal(number)
        assert driver.wait() == code
        eventually(lambda: not trainers_on(scratch))
    assert place.run(command=on(cluster)) == 0
    place.check(trials=2)
    assert place.outcomes(0)[:2] == ["interrupted", "interrupted"]
    assert place.outcomes(1) == ["lost", "completed"]
    eventually(lambda: not list(scratch.glob("*tuner-ray-*")))
    for attempt, began, last in (("1-0", 1, 3), ("1-1", 3, 6)):
        (log,) = place.folder.glob(f"home/studies/*/*/attempts/{attempt}/output.log")
        first, *_, left_out, end = log.read_text().splitlines()
        assert first.startswith(f"epoch {began} xx")
        assert end.endswith(f"xx epoch {last}")
        assert "is left out; it was on the node alone" in left_out
        assert len(log.read_bytes()) <= 500_000


@pytest.mark.slow
def test_a_confirmation_and_the_refit_of_a_promotion_train_on_the_cluster(
    place: Place, cluster: Any
) -> None:
    rates = {"type": "choice", "choices": [0.05, 0.002]}
    place.write_study(
        space={"learning_rate": rates},
        baseline=[{"learning_rate": 0.002}],
        sampler="grid",
        trials=2,
        epochs=2,
        workers="auto",
    )
    assert place.run(command=on(cluster)) == 0
    here = ("--on", "ray", "--address", cluster.address)
    nowhere = ("--on", "ray", "--address", "127.0.0.1:9")
    assert place.run(command=("confirm", "fault", *nowhere)) == 3
    assert place.run(command=("confirm", "fault", "--max-seeds", "5", *here)) == 0
    slots = [row.user_attrs["slot"] for row in place.trials("fault-confirmation")]
    assert sorted(slots)[:6] == list(range(6))
    assert place.said().count("on the Ray cluster") == 2
    assert place.run(command=("promote", "best", "fault", *nowhere)) == 3
    assert "fault-refit\nerror: Ray: no cluster at 127.0.0.1:9" in place.said()


@pytest.mark.slow
def test_a_cluster_that_is_not_there_or_has_no_room_is_named(
    place: Place, cluster: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    place.write_study(trials=1, workers="auto")
    assert place.run(command=on(cluster, "--num-gpus", "0.5")) == 3
    assert "no node of the cluster has 1 CPU and 0.5 GPU for a trainer" in place.said()
    assert place.run(command=(*RUN, "--on", "ray", "--address", "127.0.0.1:9")) == 3
    assert "no cluster at 127.0.0.1:9: Connection refused" in place.said()
    assert place.run(command=(*RUN, "--on", "ray", "--address", "ray://127.0.0.1:9")) == 2
    assert "--address: must be HOST:PORT, got 'ray://127.0.0.1:9'" in place.said()
    assert place.run(command=on(cluster, "--num-cpus", "0")) == 2
    assert "--num-cpus: must be more than 0 on a cluster without GPUs" in place.said()
    monkeypatch.setenv("RAY_AUTH_MODE", "token")
    monkeypatch.setenv("HOME", str(place.folder))
    assert place.run(command=on(cluster)) == 3
    assert f"cannot join the cluster at {cluster.address}: Token auth" in place.said()
