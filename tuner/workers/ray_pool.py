"""A pool of trainers on a Ray cluster: each is an actor with one trainer process on its node.

Ray places the actors, and reports when one is lost with its node; a new one starts wherever there
is room. Nodes need `tuner` and, for the user's own models, their modules. All else is sent: the
data set through Ray's object store, checkpoints and models with the answers.
"""

import os
import signal
import socket
import threading
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import ray
from ray.exceptions import RayActorError, RayError

from tuner.errors import UnavailableError, UsageError
from tuner.files import replaced
from tuner.spec.recipe import Backend
from tuner.spec.study_spec import AutoOrCount
from tuner.training.plan import TrialPlan, TrialResult
from tuner.workers.handle_pool import HandlePool, Placement
from tuner.workers.messages import Answer, Ended, Probe, Request, Train
from tuner.workers.pool import Ending
from tuner.workers.remote_trainer import Files, RemoteAnswer, RemoteTrainer

if TYPE_CHECKING:
    from tuner.workers.cluster import Cluster

_CONNECT_S = 10.0


class RayPool(HandlePool):
    """Trainers that are actors, each with the resources that Ray reserves for it."""

    def __init__(
        self, cluster: "Cluster", workers: AutoOrCount, slots: int, backend: Backend
    ) -> None:
        """Connects to the cluster and asks it for trainers.

        Args:
            cluster: the cluster's address, and the resources of a trainer.
            workers: the number of trainers; `auto` for as many as all nodes have room for.
                Trainers without room start when nodes join or others leave.
            slots: the most trainers that have something to do.
            backend: the backend that they train on.

        Raises:
            UsageError: the address is invalid.
            UnavailableError: there is no such cluster, or no node has a trainer's resources.
        """
        self._connected_here = _connect(cluster.address)
        with _translated(), ExitStack() as undo:
            undo.callback(self._disconnect)
            demand = _demand(cluster)
            count = min(_room(demand) if workers == "auto" else workers, slots)
            start = partial(_TrainerActor, demand, backend, _DataSets())
            super().__init__([Placement("the Ray cluster", start) for _ in range(count)], probes=1)
            undo.pop_all()

    def close(self) -> None:
        """Ends every trainer and leaves the cluster."""
        try:
            super().close()
        finally:
            self._disconnect()

    def _disconnect(self) -> None:
        if self._connected_here:
            ray.shutdown()


def _connect(address: str | None) -> bool:
    """Joins the cluster; False if this process is part of one already."""
    if ray.is_initialized():
        return False
    address = address or os.environ.get("RAY_ADDRESS")
    if address not in (None, "auto", "local"):
        _check_answers(address)
    on_sigterm = signal.getsignal(signal.SIGTERM)
    try:
        ray.init(address=address, log_to_driver=False, logging_level="ERROR")
    except (ConnectionError, ValueError, RuntimeError, RayError) as error:
        where = address or "this machine"
        reason = _lines(error)[0]
        if "RAY_AUTH_MODE" not in os.environ:
            reason += "; if it asks for a token, set RAY_AUTH_MODE=token"
        raise UnavailableError(f"Ray: cannot join the cluster at {where}: {reason}") from error
    finally:
        signal.signal(signal.SIGTERM, on_sigterm)  # Ray has replaced the handler
    return True


def _check_answers(address: str) -> None:
    """Checks that something answers at the address: Ray itself would try for minutes."""
    host, _, port = address.rpartition(":")
    if not host or "/" in host or not port.isdigit():
        raise UsageError(f"--address: must be HOST:PORT, got {address!r}")
    try:
        socket.create_connection((host, int(port)), _CONNECT_S).close()
    except OSError as error:
        raise UnavailableError(
            f"Ray: no cluster at {address}: {error.strerror or error}"
        ) from error


def _demand(cluster: "Cluster") -> dict[str, float]:
    """The resources that Ray reserves for a trainer, by Ray's names."""
    gpus = cluster.num_gpus
    if gpus is None:
        gpus = 1.0 if ray.cluster_resources().get("GPU") else 0.0
    demand = {"CPU": cluster.num_cpus, "GPU": gpus}
    if not any(demand.values()):
        raise UsageError("--num-cpus: must be more than 0 on a cluster without GPUs")
    return {what: amount for what, amount in demand.items() if amount}


def _room(demand: dict[str, float]) -> int:
    """The number of trainers that all nodes have room for, busy or not."""
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    room = sum(
        int(min(has.get(what, 0.0) / amount for what, amount in demand.items())) for has in nodes
    )
    if not room:
        needed = " and ".join(f"{amount:g} {what}" for what, amount in demand.items())
        raise UnavailableError(f"Ray: no node of the cluster has {needed} for a trainer")
    return room


class _DataSets:
    """The training rows in Ray's object store, once for the whole cluster."""

    def __init__(self) -> None:
        self._stored: dict[Path, Any] = {}

    def stored(self, folder: Path) -> Any:
        """The reference to the files of a folder."""
        if folder not in self._stored:
            arrays = {file.name: np.fromfile(file, np.uint8) for file in folder.iterdir()}
            self._stored[folder] = ray.put(arrays)
        return self._stored[folder]


class _TrainerActor:
    """The handle of an actor: sends it the files it needs, and keeps the files it sends back."""

    def __init__(self, demand: dict[str, float], backend: Backend, data: _DataSets) -> None:
        self._data = data
        self._plan: TrialPlan | None = None
        self._ending = Ending("it never began")
        self._has_answered = False
        self._over = threading.Event()
        options = {"num_cpus": demand.get("CPU", 0), "num_gpus": demand.get("GPU", 0)}
        threads = max(1, int(demand.get("CPU", 1)))
        actor = ray.remote(concurrency_groups={"answering": 1, "sending": 1, "killing": 1})(
            RemoteTrainer
        )
        self._actor = actor.options(**options).remote(backend, threads, "GPU" in demand)
        self._answers = self._call("answering", self._actor.answers)

    def send(self, request: Request) -> None:
        checkpoint, arrays = None, None
        if isinstance(request, Train | Probe):
            with _translated():
                arrays = self._data.stored(request.plan.dataset)
        if isinstance(request, Train):
            self._plan = request.plan
            checkpoint = _content(request.plan.resumes)
        self._call("sending", self._actor.send, request, checkpoint, arrays)

    def answers(self) -> Iterator[Answer]:
        try:
            for reference in self._answers or ():
                remote: RemoteAnswer = ray.get(reference)
                self._has_answered = True
                refused = self._keep(remote.files)
                if isinstance(remote.answer, Ending):
                    self._ending = remote.answer
                elif isinstance(remote.answer, Ended):
                    yield Ended(result=self._as_kept_here(remote.answer.result, refused))
                else:
                    yield remote.answer
        except RayError as error:
            self._ending = _ending_by(error)
        finally:
            self._over.set()

    def end(self) -> None:
        self._call("sending", self._actor.end)

    def kill(self, reason: str) -> None:
        self._call("killing", self._actor.kill, reason)

    def wait(self, timeout_s: float) -> None:
        if self._has_answered:
            self._over.wait(timeout_s)
        self._release()

    def ending(self, trial_log: Path | None) -> Ending:
        del trial_log  # the actor has read its end on its node
        self._release()
        return self._ending

    def _release(self) -> None:
        """Frees the resources that Ray reserves for the actor."""
        with suppress(RayError):
            ray.kill(self._actor)

    def _call(self, thread: str, method: Any, *arguments: object) -> Any:
        """Calls the actor; calls in the same of its threads keep their order."""
        with suppress(RayError):  # the actor or cluster is gone: the answers end too
            return method.options(concurrency_group=thread).remote(*arguments)

    def _keep(self, files: Files) -> dict[str, str]:
        """Writes files to the plan's folder, and returns why some could not be written.

        The trial goes on without them.
        """
        refused: dict[str, str] = {}
        if self._plan is None:
            return refused
        for name, content in files.items():
            try:
                with replaced(self._plan.folder / name) as partial:
                    partial.write_bytes(content)
            except OSError as error:
                refused[name] = error.strerror or str(error)
        return refused

    def _as_kept_here(self, result: TrialResult, refused: Mapping[str, str]) -> TrialResult:
        """The result with the model's path on this machine; without a model that is missing."""
        if result.model is None or self._plan is None:
            return result
        name = result.model.path.name
        if name in refused:
            remark = f"its model could not be kept: {refused[name]}"
            return result.model_copy(update={"model": None, "remarks": (*result.remarks, remark)})
        model = result.model.model_copy(update={"path": self._plan.folder / name})
        return result.model_copy(update={"model": model})


def _ending_by(error: RayError) -> Ending:
    """How an actor ended. One that started was lost with its node, or by Ray's doing there."""
    reason = _lines(error)[-1]
    if isinstance(error, RayActorError) and not error.actor_init_failed:
        return Ending(f"its actor was lost, maybe with its node: {reason}", machine_lost=True)
    return Ending(reason)


def _lines(error: BaseException) -> list[str]:
    """The lines of an error's text, or its type if it has none."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines or [type(error).__name__]


@contextmanager
def _translated() -> Iterator[None]:
    """Turns an error of Ray in the block into an `UnavailableError`."""
    try:
        yield
    except RayError as error:
        raise UnavailableError(f"Ray: the cluster failed: {_lines(error)[0]}") from error


def _content(file: Path | None) -> bytes | None:
    """The file's content; None if there is no file, so that the trial starts anew."""
    return file.read_bytes() if file is not None and file.exists() else None
