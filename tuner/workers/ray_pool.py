"""A pool of trainers on a Ray cluster: each an actor that holds one trainer process on its node.

Ray places them, and says when one is lost with its node; the next takes its place wherever there
is room. Nodes need `tuner` and, for models of the user's own, their modules. All else travels:
the data set through Ray's object store, checkpoints and models with the answers.
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
from tuner.workers.remote_trainer import Files, RemoteTrainer, Said

if TYPE_CHECKING:
    from tuner.workers.cluster import Cluster

_CONNECT_S = 10.0


class RayPool(HandlePool):
    """Trainers that are actors, each with the resources that Ray holds for it."""

    def __init__(
        self, cluster: "Cluster", workers: AutoOrCount, slots: int, backend: Backend
    ) -> None:
        """Connects to the cluster and asks it for trainers.

        Args:
            cluster: where it is, and what a trainer takes of it.
            workers: how many trainers; `auto` for as many as the nodes have room for in all.
                Those that find none begin when nodes join or others leave.
            slots: more trainers than this would have nothing to do.
            backend: what they train on.

        Raises:
            UsageError: the address cannot be one.
            UnavailableError: there is no such cluster, or no node has what a trainer takes.
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
    """Joins the cluster; False where this process is part of one already."""
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
        said = _lines(error)[0]
        if "RAY_AUTH_MODE" not in os.environ:
            said += "; if it asks for a token, set RAY_AUTH_MODE=token"
        raise UnavailableError(f"Ray: cannot join the cluster at {where}: {said}") from error
    finally:
        signal.signal(signal.SIGTERM, on_sigterm)  # Ray takes it for itself
    return True


def _check_answers(address: str) -> None:
    """Ray itself would go on trying for minutes."""
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
    """What Ray holds for a trainer, by its names of resources."""
    gpus = cluster.num_gpus
    if gpus is None:
        gpus = 1.0 if ray.cluster_resources().get("GPU") else 0.0
    demand = {"CPU": cluster.num_cpus, "GPU": gpus}
    if not any(demand.values()):
        raise UsageError("--num-cpus: must be more than 0 on a cluster without GPUs")
    return {what: amount for what, amount in demand.items() if amount}


def _room(demand: dict[str, float]) -> int:
    """How many trainers the nodes hold in all, busy as they may be at this moment."""
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    room = sum(
        int(min(has.get(what, 0.0) / amount for what, amount in demand.items())) for has in nodes
    )
    if not room:
        told = " and ".join(f"{amount:g} {what}" for what, amount in demand.items())
        raise UnavailableError(f"Ray: no node of the cluster has {told} for a trainer")
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
    """The handle of an actor: sends it what this machine has, and keeps what it sends back."""

    def __init__(self, demand: dict[str, float], backend: Backend, data: _DataSets) -> None:
        self._data = data
        self._plan: TrialPlan | None = None
        self._ending = Ending("it never began")
        self._has_spoken = False
        self._over = threading.Event()
        options = {"num_cpus": demand.get("CPU", 0), "num_gpus": demand.get("GPU", 0)}
        threads = max(1, int(demand.get("CPU", 1)))
        actor = ray.remote(concurrency_groups={"listening": 1, "telling": 1, "killing": 1})(
            RemoteTrainer
        )
        self._actor = actor.options(**options).remote(backend, threads, "GPU" in demand)
        self._said = self._call("listening", self._actor.listen)

    def send(self, request: Request) -> None:
        checkpoint, arrays = None, None
        if isinstance(request, Train | Probe):
            with _translated():
                arrays = self._data.stored(request.plan.dataset)
        if isinstance(request, Train):
            self._plan = request.plan
            checkpoint = _content(request.plan.resumes)
        self._call("telling", self._actor.send, request, checkpoint, arrays)

    def answers(self) -> Iterator[Answer]:
        try:
            for reference in self._said or ():
                said: Said = ray.get(reference)
                self._has_spoken = True
                refused = self._keep(said.files)
                if isinstance(said.answer, Ending):
                    self._ending = said.answer
                elif isinstance(said.answer, Ended):
                    yield Ended(result=self._as_kept_here(said.answer.result, refused))
                else:
                    yield said.answer
        except RayError as error:
            self._ending = _ending_by(error)
        finally:
            self._over.set()

    def end(self) -> None:
        self._call("telling", self._actor.end)

    def kill(self, reason: str) -> None:
        self._call("killing", self._actor.kill, reason)

    def wait(self, timeout_s: float) -> None:
        if self._has_spoken:
            self._over.wait(timeout_s)
        self._release()

    def ending(self, trial_log: Path | None) -> Ending:
        del trial_log  # its node has read the end of it
        self._release()
        return self._ending

    def _release(self) -> None:
        """Frees what Ray holds for the actor."""
        with suppress(RayError):
            ray.kill(self._actor)

    def _call(self, thread: str, method: Any, *arguments: object) -> Any:
        """Calls the actor; calls in one of its threads keep their order."""
        with suppress(RayError):  # it is gone, or its cluster: the answers end too
            return method.options(concurrency_group=thread).remote(*arguments)

    def _keep(self, files: Files) -> dict[str, str]:
        """Writes files to the plan's folder; says of those that could not be written why.

        A disk without room for one costs safety, not the trial.
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
        """The result with the path that the model has on this machine, if it is there."""
        if result.model is None or self._plan is None:
            return result
        name = result.model.path.name
        if name in refused:
            remark = f"its model could not be kept: {refused[name]}"
            return result.model_copy(update={"model": None, "remarks": (*result.remarks, remark)})
        model = result.model.model_copy(update={"path": self._plan.folder / name})
        return result.model_copy(update={"model": model})


def _ending_by(error: RayError) -> Ending:
    """An actor that was never made is at fault itself; else its node is, or what Ray does there."""
    reason = _lines(error)[-1]
    if isinstance(error, RayActorError) and not error.actor_init_failed:
        return Ending(f"its actor was lost, maybe with its node: {reason}", machine_lost=True)
    return Ending(reason)


def _lines(error: BaseException) -> list[str]:
    """What it says, its kind where it says nothing."""
    said = [line.strip() for line in str(error).splitlines() if line.strip()]
    return said or [type(error).__name__]


@contextmanager
def _translated() -> Iterator[None]:
    """A cluster that fails in the block is unavailable."""
    try:
        yield
    except RayError as error:
        raise UnavailableError(f"Ray: the cluster failed: {_lines(error)[0]}") from error


def _content(file: Path | None) -> bytes | None:
    """None also where a checkpoint has gone: the trial begins again."""
    return file.read_bytes() if file is not None and file.exists() else None
