"""A trainer on a node of a cluster: its process, its folder, and the files that it sends back.

Does not import Ray; `ray_pool` makes an actor of it.
"""

import os
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tuner.files import try_lock
from tuner.spec.recipe import Backend
from tuner.training.output import excerpt
from tuner.training.plan import CHECKPOINT, EpochEnded, ModelPlan, TrialPlan
from tuner.workers.devices import Device, usable_cores, visible_gpus
from tuner.workers.local_pool import TrainerProcess
from tuner.workers.messages import OUTPUT_LOG, Answer, Describe, Ended, Probe, Request, Train
from tuner.workers.pool import Ending

_LOCK = "in-use"


class Scratch:
    """A temporary folder of this process, locked while the process lives."""

    def __init__(self, prefix: str) -> None:
        """Makes the folder, and removes those with this prefix whose processes are dead."""
        for folder in Path(tempfile.gettempdir()).glob(f"{prefix}*"):
            _remove_if_abandoned(folder)
        made = Path(tempfile.mkdtemp(prefix=f"new-{prefix}"))
        self._lock = (made / _LOCK).open("wb")
        try_lock(self._lock)
        self.folder = made.rename(made.with_name(made.name.removeprefix("new-")))

    def remove(self) -> None:
        """Removes the folder and all that is in it."""
        shutil.rmtree(self.folder, ignore_errors=True)
        self._lock.close()


def _remove_if_abandoned(folder: Path) -> None:
    try:
        with (folder / _LOCK).open("rb+") as lock:
            if try_lock(lock):
                shutil.rmtree(folder, ignore_errors=True)
    except OSError:  # another user's folder, or one that is gone
        return


Files = dict[str, bytes]
"""The contents of files in an attempt's folder, by name."""
Arrays = dict[str, NDArray[np.uint8]]
"""The bytes of a data set's files by name, each an array of shape (size,)."""


@dataclass(frozen=True)
class RemoteAnswer:
    """An answer of a trainer, or its end, with the changed files of its attempt."""

    answer: Answer | Ending
    files: Files


class RemoteTrainer:
    """A trainer process and its folder on a node."""

    def __init__(self, backend: Backend, threads: int, on_gpu: bool) -> None:
        self._scratch = Scratch("tuner-ray-")
        self._plan: TrialPlan | None = None
        self._checkpoint_at = 0
        gpu = visible_gpus(os.environ)[0] if on_gpu else None
        device = Device("gpu" if gpu else "cpu", usable_cores(), gpu, threads)
        self._trainer = TrainerProcess(device, backend, self._scratch.folder / "trainer.log")

    def answers(self) -> Iterator[RemoteAnswer]:
        """Yields the trainer's answers, and at last how it ended."""
        for answer in self._trainer.answers():
            yield RemoteAnswer(answer, self._files(answer))
        ending = self._trainer.ending(self._plan.folder / OUTPUT_LOG if self._plan else None)
        files = self._files(ending)
        self._scratch.remove()
        yield RemoteAnswer(ending, files)

    def send(self, request: Request, checkpoint: bytes | None, arrays: Arrays | None) -> None:
        """Sends a request to the trainer, with the paths of this node in it."""
        try:
            self._trainer.send(self._translated(request, checkpoint, arrays))
        except OSError as error:  # the disk is full; nobody waits for the result of this call
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
        if not dataset.exists():  # an actor serves one study only
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
        """The files that the attempt has written, as far as the driver needs them now."""
        if self._plan is None:
            return {}
        folder = self._plan.folder
        match about:
            case EpochEnded():
                return self._new_checkpoint(folder / CHECKPOINT)
            case Ended(result=result):
                files = _log(folder)
                if result.model:
                    files |= _content(folder / result.model.path.name)
                shutil.rmtree(folder, ignore_errors=True)
                self._plan = None
                return files
            case Ending():
                return _content(folder / CHECKPOINT) | _log(folder)
        return {}

    def _new_checkpoint(self, file: Path) -> Files:
        """The checkpoint, if it is newer than the one last sent."""
        written_at = file.stat().st_mtime_ns if file.exists() else 0
        if written_at == self._checkpoint_at:
            return {}
        self._checkpoint_at = written_at
        return _content(file)


def _as_found_here(model: ModelPlan) -> ModelPlan:
    """The model with the code folders that exist on this node, and its actors' working folder."""
    folders = [
        folder
        for folder in model.code_path
        if os.path.isdir(folder)  # noqa: PTH112 - never raises
    ]
    return model.model_copy(update={"code_path": (*folders, Path.cwd())})


def _content(file: Path) -> Files:
    return {file.name: file.read_bytes()} if file.exists() else {}


def _log(folder: Path) -> Files:
    log = folder / OUTPUT_LOG
    return {log.name: excerpt(log, "it was on the node alone")} if log.exists() else {}
