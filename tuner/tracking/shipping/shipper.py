"""The driver's end of the shipper process. Imports no MLflow.

The driver appends to spools and goes on training; the process started here does the rest.
"""

import json
import math
import os
import queue
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path

from tuner.children import Child
from tuner.tracking.settings import TrackingSettings

_ENDING_S = 5.0
"""Seconds that a terminated shipper has before it is killed."""
_ASK_S = 0.5
_STUCK_S = 300.0
"""Seconds without a report after which a process that is to finish is ended: beside busy cores it
may need minutes to create MLflow's tables at low priority."""
_STARTING_S = 120.0
"""Seconds in which the process must have loaded MLflow, beside busy cores at low priority."""


class Shipper:
    """A running shipper process for one study folder.

    It notices the driver's death by the end of its input, and then ships what is left.
    """

    def __init__(
        self, study_folder: Path, settings: TrackingSettings, drain_timeout_s: float = 60.0
    ) -> None:
        study_folder.mkdir(parents=True, exist_ok=True)
        self.log = study_folder / "shipper.log"
        """The process's messages for people."""
        self.refusal = ""
        """Why nothing can be shipped until a person has repaired something; empty otherwise."""
        self.pending: int | None = None
        """The number of events that MLflow lacks; None before the process has counted."""
        self._reported_at = 0.0
        self._started = threading.Event()
        self._found: queue.SimpleQueue[tuple[str, str]] = queue.SimpleQueue()
        command = ["-m", "tuner.tracking.shipping.shipper_process", str(study_folder)]
        command += [f"--experiment={settings.experiment}", f"--drain-timeout-s={drain_timeout_s}"]
        command += [f"--artifact-root={settings.artifact_root}"]
        environment = os.environ | {"MLFLOW_TRACKING_URI": settings.uri}
        self._process = Child(command, output=self.log, env=environment)
        self._reader = threading.Thread(target=self._listen, name="shipper", daemon=True)
        self._reader.start()

    @property
    def pid(self) -> int:
        """The id of the process and of its group."""
        return self._process.pid

    @property
    def alive(self) -> bool:
        """Whether the process runs. It never ends by itself before `finish`."""
        return not self._process.ends(0)

    def poll(self) -> list[tuple[str, str]]:
        """Returns the uid and MLflow run id of every run that became known since the last call."""
        found = []
        while True:
            try:
                found.append(self._found.get_nowait())
            except queue.Empty:
                return found

    def wait_started(self) -> None:
        """Waits until the process has loaded MLflow and counted its events, or has ended."""
        self._started.wait(_STARTING_S)

    def finish(self, timeout_s: Callable[[], float]) -> int:
        """Lets the process ship what is left, and returns its exit code.

        Calls `timeout_s` again and again; it returns the seconds that the process has in all. If
        that is infinite, a process that reports no progress for five minutes is ended: a store that
        never answers would hold it for ever. Exit code 0: everything is in MLflow. 3: MLflow stayed
        away. 1: see `refusal`. 143 or negative: the process was ended. The spools keep what is not
        shipped.
        """
        self._process.close_input()
        began = time.monotonic()
        self._reported_at = began if self._started.is_set() else began + _STARTING_S

        def left_s() -> float:
            limit_s = timeout_s()
            stuck = self._reported_at + _STUCK_S
            return (began + limit_s if math.isfinite(limit_s) else stuck) - time.monotonic()

        while (left := left_s()) > 0:
            if self._process.ends(min(left, _ASK_S)):
                break
        else:
            self._process.terminate()
        code = self._process.wait(_ENDING_S)
        self._reader.join()
        return -signal.SIGKILL if code is None else code

    def _listen(self) -> None:
        for line in self._process.lines():
            message = json.loads(line)
            if "run_id" in message:
                self._found.put((message["uid"], message["run_id"]))
            elif "refused" in message:
                self.refusal = message["refused"]
            else:
                self.pending = message["pending"]
            self._reported_at = time.monotonic()
            self._started.set()
        self._started.set()
