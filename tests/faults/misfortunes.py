"""What a trial's parameters let happen to its trainer, with either engine.

`pause_s` is slept, and a line of `prints` bytes printed, a batch. In the epoch `strikes_in` a
`misfortune` strikes: the trainer `dies` every time, `hangs` the first time, `diverges`, or
`starves` for want of memory. The first time it may also be `survived`: it dies while two processes
live that it has forked, one of which has left its group. One that is `unbuilt` has no network in
the first place.
"""

import dataclasses
import math
import os
import resource
import signal
import sys
import time
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from tuner.errors import ModelError
from tuner.training.engines.base import TrainedEpoch
from tuner.training.plan import TrialPlan


def befall(plan: TrialPlan, epoch: int, batches: int = 1) -> None:
    """To be called once for so many batches of the epoch."""
    time.sleep(float(plan.params.get("pause_s", 0)) * batches)
    if printed := int(plan.params.get("prints", 0)) * batches:
        sys.stdout.write(f"epoch {epoch} {'x' * printed} epoch {epoch}\n")
        sys.stdout.flush()
    if _strikes("dies", plan, epoch):
        os.kill(os.getpid(), signal.SIGKILL)
    while _strikes("hangs", plan, epoch) and plan.attempt == 0:
        signal.pause()
    if _strikes("survived", plan, epoch) and plan.attempt == 0:
        die_survived()
    if _strikes("starves", plan, epoch):
        before = resource.getrlimit(resource.RLIMIT_AS)
        resource.setrlimit(resource.RLIMIT_AS, (4 << 30, before[1]))
        try:
            np.ones(8 << 30, np.uint8)
        finally:
            resource.setrlimit(resource.RLIMIT_AS, before)


SURVIVOR = "survivor"
"""The name of a process that a trainer has forked before it died."""


def die_survived() -> None:
    """Dies, and leaves two processes that hold its pipes open, as data loaders may."""
    for leave_group in (False, True):
        if os.fork() == 0:
            Path("/proc/self/comm").write_text(SURVIVOR)
            if leave_group:
                os.setsid()
            while True:
                signal.pause()
    os.kill(os.getpid(), signal.SIGKILL)


def outcome(trained: TrainedEpoch, plan: TrialPlan, epoch: int) -> TrainedEpoch:
    """What the epoch came to."""
    if _strikes("diverges", plan, epoch):
        return dataclasses.replace(trained, loss=math.nan)
    return trained


def check_buildable(misfortune: object) -> None:
    """Called by what builds the network."""
    if misfortune == "unbuilt":
        raise ModelError("softmax: cannot be built with misfortune=unbuilt")


def beset(engine: ModuleType) -> None:
    """Lets them happen to TensorFlow's own engine, whose module this is."""
    session = engine.TensorFlowSession
    train_epoch = session.train_epoch

    def train(self: Any, order: Any) -> TrainedEpoch:
        plan, epoch = self._plan, self._epoch + 1
        befall(plan, epoch, math.ceil(len(order) / plan.recipe.batch_size))
        return outcome(train_epoch(self, order), plan, epoch)

    session.train_epoch = train


def _strikes(misfortune: str, plan: TrialPlan, epoch: int) -> bool:
    params = plan.params
    return params.get("misfortune") == misfortune and params["strikes_in"] == epoch
