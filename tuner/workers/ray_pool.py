"""A pool of trainers on a Ray cluster: each an actor that holds one trainer process on its node.

Ray places them, and says when one is lost with its node; the next takes its place wherever there
is room. Nodes need `tuner` and, for models of the user's own, their modules. All else travels:
the data set through Ray's object store, checkpoints and models with the answers.
"""

import os
import shutil
import signal
import socket
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import ray
from numpy.typing import NDArray
from ray.exceptions import RayActorError, RayError

from tuner.errors import UnavailableError, UsageError
from tuner.spec.backend import Backend
from tuner.spec.study import AutoOrCount
from tuner.training.plan import CHECKPOINT, ModelPlan, TrialPlan, TrialResult
from tuner.workers.devices import Device, usable_cores, visible_gpus
from tuner.workers.handle import Ending
from tuner.workers.handle_pool import Berth, HandlePool
from tuner.workers.messages import (
    OUTPUT_LOG,
    Answer,
    Describe,
    Ended,
    EpochReported,
    Probe,
    Request,
    Train,
)
from tuner.workers.process import TrainerProcess
from tuner.workers.scratch import Scratch

if TYPE_CHECKING:
    from tuner.workers.cluster import Cluster

_CONNECT_S = 10.0

Files = dict[str, bytes]
Arrays = dict[str, NDArray[np.uint8]]


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
        demand = _demand(cluster)
        room = sum(_room(node["Resources"], demand) for node in ray.nodes() if node["Alive"])
        if room == 0 and workers == "auto":
            told = " and ".join(f"{amount:g} {what}" for what, amount in demand.items())
            raise UnavailableError(f"Ray: no node of the cluster has {told} for a trainer")
        count = min(room if workers == "auto" else workers, slots)
        data = _DataSets()
        start = partial(_TrainerActor, demand, backend, data)
        super().__init__([Berth("the Ray cluster", start) for _ in range(count)], probes=1)

    def close(self) -> None:
        """Ends every trainer and leaves the cluster."""
        try:
            super().close()
        finally:
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
    except (ConnectionError, ValueError, RuntimeError) as error:
        where = address or "this machine"
        raise UnavailableError(f"Ray: cannot join the cluster at {where}: {error}") from error
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


def _room(resources: dict[str, float], demand: dict[str, float]) -> int:
    """How many trainers a node with these resources holds."""
    return int(min(resources.get(what, 0.0) / amount for what, amount in demand.items()))


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


@dataclass(frozen=True)
class _Said:
    """What a trainer said, with the files of its attempt that have changed."""

    answer: Answer | Ending
    files: Files


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
        actor = ray.remote(concurrency_groups={"listening": 1, "telling": 1, "killing": 1})(_Actor)
        self._actor = actor.options(**options).remote(backend, threads, "GPU" in demand)
        self._said = self._call("listening", self._actor.listen)

    def send(self, request: Request) -> None:
        checkpoint, arrays = None, None
        if isinstance(request, Train | Probe):
            arrays = self._data.stored(request.plan.dataset)
        if isinstance(request, Train):
            self._plan = request.plan
            checkpoint = _content(request.plan.resumes)
        self._call("telling", self._actor.send, request, checkpoint, arrays)

    def answers(self) -> Iterator[Answer]:
        try:
            for reference in self._said:
                said: _Said = ray.get(reference)
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
            partial_file = self._plan.folder / f"partial-{name}"
            try:
                partial_file.write_bytes(content)
                partial_file.replace(self._plan.folder / name)
            except OSError as error:
                partial_file.unlink(missing_ok=True)
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
    reason = str(error).strip().splitlines()[-1].strip()
    if isinstance(error, RayActorError) and not error.actor_init_failed:
        return Ending(f"its actor was lost, maybe with its node: {reason}", machine_lost=True)
    return Ending(reason)


class _Actor:
    """A trainer process and its folder, on some node."""

    def __init__(self, backend: Backend, threads: int, on_gpu: bool) -> None:
        self._scratch = Scratch("tuner-ray-")
        self._plan: TrialPlan | None = None
        self._checkpoint_at = 0
        gpu = visible_gpus(os.environ)[0] if on_gpu else None
        device = Device("gpu" if gpu else "cpu", usable_cores(), gpu, threads)
        self._trainer = TrainerProcess(device, backend, self._scratch.folder / "trainer.log")

    def listen(self) -> Iterator[_Said]:
        """All that the trainer says, and at last how it ended."""
        for answer in self._trainer.answers():
            yield _Said(answer, self._files(answer))
        ending = self._trainer.ending(self._plan.folder / OUTPUT_LOG if self._plan else None)
        files = self._files(ending)
        self._scratch.remove()
        yield _Said(ending, files)

    def send(self, request: Request, checkpoint: bytes | None, arrays: Arrays | None) -> None:
        """Passes a request on, with the paths of this node in it."""
        try:
            self._trainer.send(self._translated(request, checkpoint, arrays))
        except OSError as error:  # no room for the data, say; nobody waits for this call's answer
            self._trainer.kill(f"could not be given its work: {error}")

    def end(self) -> None:
        """Tells the trainer to end."""
        self._trainer.end()

    def kill(self, reason: str) -> None:
        """Ends the trainer at once."""
        self._trainer.kill(reason)

    def _translated(
        self, request: Request, checkpoint: bytes | None, arrays: Arrays | None
    ) -> Request:
        match request:
            case Describe(model=model):
                return request.model_copy(update={"model": _as_found_here(model)})
            case Train(plan=plan) | Probe(plan=plan):
                assert arrays is not None
                self._plan = self._as_placed_here(plan, arrays, checkpoint)
                return request.model_copy(update={"plan": self._plan})
        return request

    def _as_placed_here(
        self, plan: TrialPlan, arrays: Arrays, checkpoint: bytes | None
    ) -> TrialPlan:
        dataset = self._scratch.folder / "dataset"
        if not dataset.exists():  # an actor serves one study
            dataset.mkdir()
            for name, content in arrays.items():
                content.tofile(dataset / name)
        folder = self._scratch.folder / f"{plan.slot}-{plan.attempt}"
        folder.mkdir(exist_ok=True)
        resumes = None
        if checkpoint is not None:
            resumes = folder / f"earlier-{CHECKPOINT}"
            resumes.write_bytes(checkpoint)
        here = {"dataset": dataset, "folder": folder, "resumes": resumes}
        return plan.model_copy(update={**here, "model": _as_found_here(plan.model)})

    def _files(self, about: Answer | Ending) -> Files:
        """What the attempt has written, as far as the driver needs it by now."""
        if self._plan is None:
            return {}
        folder = self._plan.folder
        match about:
            case EpochReported():
                return self._new_checkpoint(folder / CHECKPOINT)
            case Ended(result=result):
                names = [OUTPUT_LOG, *([result.model.path.name] if result.model else [])]
                files = _contents(folder, names)
                shutil.rmtree(folder)
                self._plan = None
                return files
            case Ending():
                return _contents(folder, [CHECKPOINT, OUTPUT_LOG])
        return {}

    def _new_checkpoint(self, file: Path) -> Files:
        """The checkpoint, if it was written since it was last sent."""
        written_at = file.stat().st_mtime_ns if file.exists() else 0
        if written_at <= self._checkpoint_at:
            return {}
        self._checkpoint_at = written_at
        return _contents(file.parent, [file.name])


def _as_found_here(model: ModelPlan) -> ModelPlan:
    """With those code folders that this node has too, and the one its actors run in."""
    folders = [
        folder
        for folder in model.code_path
        if os.path.isdir(folder)  # noqa: PTH112 - raises not
    ]
    return model.model_copy(update={"code_path": (*folders, Path.cwd())})


def _contents(folder: Path, names: Sequence[str]) -> Files:
    return {name: (folder / name).read_bytes() for name in names if (folder / name).exists()}


def _content(file: Path | None) -> bytes | None:
    """None also where a checkpoint has gone: the trial begins again."""
    return file.read_bytes() if file is not None and file.exists() else None
