"""Writes spools on a disk that may be full: events wait in memory until it takes them."""

from collections import deque
from collections.abc import Callable
from pathlib import Path

from tuner.errors import UnavailableError
from tuner.tracking.spool.spool import SpoolWriter, is_begun
from tuner.tracking.spool.spool_events import Event
from tuner.words import count


class Backlog:
    """Writes events into spools, in order within each spool.

    Events that the disk does not take are tried again with every event that follows. Those that
    still wait when the backlog is closed are lost, and their number is said.
    """

    def __init__(self, say: Callable[[str], None]) -> None:
        self._say = say
        self._writers: dict[Path, SpoolWriter] = {}
        self._waiting: dict[Path, deque[Event]] = {}
        self._released: set[Path] = set()
        self._complained = False

    def append(self, folder: Path, event: Event) -> None:
        """Writes the event into the spool in `folder`, now or once the disk takes it."""
        self._released.discard(folder)
        self._waiting.setdefault(folder, deque()).append(event)
        self._flush()

    def has_lost(self, folder: Path) -> bool:
        """Whether the spool was deleted, or its first event damaged, since its last event.

        The next event creates a deleted spool anew.
        """
        writer = self._writers.get(folder)
        if writer is None:
            return False
        if writer.is_gone:
            self._close(folder)
            return True
        return folder not in self._waiting and not is_begun(folder)

    def release(self, folder: Path) -> None:
        """Closes the spool once everything is written, so that another process may write it."""
        self._released.add(folder)
        if folder not in self._waiting:
            self._close(folder)

    def close(self) -> None:
        """Closes every spool, after a last try."""
        self._flush()
        for folder, events in self._waiting.items():
            self._say(
                f"{folder}: {count(len(events), 'event')} could not be written; MLflow lacks them"
            )
        self._waiting.clear()
        for folder in list(self._writers):
            self._close(folder)

    def _flush(self) -> None:
        for folder in list(self._waiting):
            try:
                self._write(folder)
            except (OSError, UnavailableError) as error:
                if not self._complained:
                    self._say(f"{error}; events are kept in memory until they can be written")
                self._complained = True
        if self._complained and not self._waiting:
            self._say("all waiting events are written")
            self._complained = False

    def _write(self, folder: Path) -> None:
        events = self._waiting[folder]
        if folder not in self._writers:
            self._writers[folder] = SpoolWriter(folder)
        while events:
            self._writers[folder].append(events[0])
            events.popleft()
        del self._waiting[folder]
        if folder in self._released:
            self._close(folder)

    def _close(self, folder: Path) -> None:
        self._released.discard(folder)
        if writer := self._writers.pop(folder, None):
            writer.close()
