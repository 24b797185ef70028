"""A command in a pseudo terminal, and the screen that a person in front of it sees."""

import os
import pty
import select
import subprocess
import termios
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import pyte

from tests.waiting import LONGEST_S


class Terminal:
    """Runs a command and keeps the screen that its output makes."""

    def __init__(
        self, command: Sequence[str], folder: Path, environment: Mapping[str, str]
    ) -> None:
        lines, columns = 40, 120
        self._screen = pyte.Screen(columns, lines)
        self._stream = pyte.ByteStream(self._screen)
        self._ours, theirs = pty.openpty()
        termios.tcsetwinsize(theirs, (lines, columns))
        self.process = subprocess.Popen(
            command,
            cwd=folder,
            env={**environment, "TERM": "xterm-256color"},
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            start_new_session=True,
        )
        os.close(theirs)

    @property
    def screen(self) -> str:
        """The lines on the screen, without the blanks at their ends."""
        return "\n".join(line.rstrip() for line in self._screen.display).rstrip()

    def until(self, condition: Callable[[str], object]) -> str:
        """Waits for a screen that meets the condition and returns it.

        Fails if the command ends first.
        """
        deadline = time.monotonic() + LONGEST_S
        while not condition(self.screen):
            assert time.monotonic() < deadline, self.screen
            assert self._read(), f"the command ended first:\n{self.screen}"
        return self.screen

    def until_ended(self) -> str:
        """Waits until the command has ended and returns the screen that it leaves."""
        while self._read():
            pass
        self.process.wait(LONGEST_S)
        os.close(self._ours)
        return self.screen

    def _read(self) -> bool:
        """Shows the next piece of output. Returns False once nobody can write any more."""
        ready, _, _ = select.select([self._ours], [], [], LONGEST_S)
        assert ready, self.screen
        try:
            self._stream.feed(os.read(self._ours, 4096))
        except OSError:  # the other end is closed
            return False
        return True
