"""What was measured on this machine, for the studies to come: a JSON file that may be deleted."""

import json
from contextlib import suppress
from pathlib import Path
from typing import Any


class Memory:
    """What is known of each workload, in one file."""

    def __init__(self, file: Path) -> None:
        self._file = file

    def recall(self, workload: str) -> dict[str, Any]:
        """What was kept last; nothing where nothing was."""
        known = self._read().get(workload)
        return known if isinstance(known, dict) else {}

    def keep(self, workload: str, measured: dict[str, Any]) -> None:
        """Remembers it in place of what was kept before, if the disk has room."""
        known = {**self._read(), workload: measured}
        partial = self._file.with_name(f"partial-{self._file.name}")
        with suppress(OSError):
            partial.write_text(json.dumps(known, indent=2))
            partial.replace(self._file)

    def _read(self) -> dict[str, Any]:
        """A file that was cut short or written by another version counts as none."""
        try:
            known = json.loads(self._file.read_text())
        except (FileNotFoundError, ValueError):
            return {}
        return known if isinstance(known, dict) else {}
