"""Names this process so that any other on the machine can tell whether it still lives."""

import os
import socket
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import psutil


@dataclass(frozen=True)
class ProcessId:
    """A process beyond doubt: a process number comes again, its start on one boot does not."""

    host: str
    boot: str
    pid: int
    started: float
    """Seconds since the epoch, as the kernel tells it."""

    def is_gone(self) -> bool:
        """Whether the process is known to be dead; one on another host never is."""
        here = this_process()
        if self.host != here.host:
            return False
        if self.boot != here.boot:
            return True
        try:
            return bool(psutil.Process(self.pid).create_time() != self.started)
        except psutil.NoSuchProcess:
            return True


@cache
def this_process() -> ProcessId:
    """The process that asks."""
    return ProcessId(
        host=socket.gethostname(),
        boot=Path("/proc/sys/kernel/random/boot_id").read_text().strip(),
        pid=os.getpid(),
        started=psutil.Process().create_time(),
    )
