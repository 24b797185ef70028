"""Names this process so that any other on the machine can tell whether it still lives."""

import os
import socket
from dataclasses import dataclass
from functools import cache
from pathlib import Path


@dataclass(frozen=True)
class ProcessId:
    """A process beyond doubt: a process number comes again, its start in one place does not."""

    host: str
    place: str
    """The boot of its machine and the namespace of process numbers, a container's own."""
    pid: int
    started: int
    """Clock ticks between the boot and its start; no clock that is set changes it."""

    def is_gone(self) -> bool:
        """Whether the process is known to be dead; one in another place never is."""
        here = this_process()
        if (self.host, self.place) != (here.host, here.place):
            return False
        try:
            return _start_ticks(self.pid) != self.started
        except PermissionError:
            return False
        except (FileNotFoundError, ProcessLookupError):
            return not _exists(self.pid)  # /proc may hide what other users run


@cache
def this_process() -> ProcessId:
    """The process that asks."""
    return ProcessId(
        host=socket.gethostname(),
        place=f"{_boot_id()} {Path('/proc/self/ns/pid').readlink()}",
        pid=os.getpid(),
        started=_start_ticks(os.getpid()),
    )


def _exists(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _boot_id() -> str:
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def _start_ticks(pid: int) -> int:
    """Field 22 of `/proc/PID/stat`, see proc_pid_stat(5); names before it may hold anything."""
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19])
