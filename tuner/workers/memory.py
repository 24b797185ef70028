"""What was measured on this machine, for the studies to come: a JSON file that may be deleted."""

import json
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from tuner.atomic import exclusive, replacing


class Memory:
    """What is known of each workload, in one file."""

    def __init__(self, file: Path) -> None:
        self._file = file

    def recall(self, workload: str) -> dict[str, Any]:
        """What was kept last; nothing where nothing was."""
        return _entry(self._read(), workload)

    def keep(self, workload: str, measured: dict[str, Any]) -> None:
        """Remembers it in place of what was kept before, if the disk has room."""
        self.change(workload, lambda _: measured)

    def change(
        self, workload: str, changed: Callable[[dict[str, Any]], dict[str, Any]]
    ) -> dict[str, Any]:
        """Remembers what `changed` makes of what is kept by now, if the disk has room.

        One process at a time does, so that none loses what another has kept meanwhile.

        Returns:
            What `changed` made.
        """
        with suppress(OSError), exclusive(self._file.with_name(f"{self._file.name}.lock")):
            known = self._read()
            entry = known[workload] = changed(_entry(known, workload))
            with replacing(self._file) as file:
                file.write(json.dumps(known, indent=2).encode())
            return entry
        return changed(self.recall(workload))

    def _read(self) -> dict[str, Any]:
        """A file that was cut short or written by another version counts as none."""
        try:
            known = json.loads(self._file.read_text())
        except (FileNotFoundError, ValueError):
            return {}
        return known if isinstance(known, dict) else {}


def _entry(known: dict[str, Any], workload: str) -> dict[str, Any]:
    entry = known.get(workload)
    return entry if isinstance(entry, dict) else {}
