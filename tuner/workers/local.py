"""A pool of trainer processes on this machine, one a device."""

import os
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from tuner.spec.backend import Backend
from tuner.workers.devices import Device
from tuner.workers.handle_pool import Berth, HandlePool
from tuner.workers.process import TrainerProcess


class LocalPool(HandlePool):
    """Trainers that are children of this process."""

    def __init__(
        self, devices: Sequence[Device], logs: Path, backend: Backend = "tensorflow"
    ) -> None:
        """Starts a trainer for every device.

        Args:
            devices: what the trainers own, one each.
            logs: the folder for what trainers print outside of trials.
            backend: what they train on.
        """
        logs.mkdir(parents=True, exist_ok=True)
        berths = [
            Berth(
                device.name,
                partial(TrainerProcess, device, backend, logs / f"trainer-{os.getpid()}-{n}.log"),
            )
            for n, device in enumerate(devices)
        ]
        super().__init__(berths, probes=len(berths))
