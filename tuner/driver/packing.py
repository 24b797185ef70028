"""How many trainers a machine trains fastest with: measured once, then remembered.

One trainer a core is the rule on processors and one a GPU on GPUs, but a network whose steps
are long may want several cores, and one whose steps are short leaves room on its GPU. Trying
a packing costs the start of its trainers, so it is done where the study is long enough to win
that back.
"""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tuner.files import exclusive, replacing
from tuner.training.plan import TrialPlan
from tuner.workers.devices import Device
from tuner.workers.handle_pool import HandlePool


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


Layout = Sequence[Device]


@dataclass(frozen=True)
class MeasuredPacking:
    """A pool, and how long an epoch takes it while all of its trainers are at work."""

    pool: HandlePool
    epoch_s: float

    def seconds(self, epochs: int) -> float:
        """How long so many epochs take, shared by all trainers."""
        return epochs / self.pace

    @property
    def pace(self) -> float:
        """Epochs a second, of all trainers together."""
        return self.pool.size / self.epoch_s


def fastest(
    first: MeasuredPacking,
    others: Iterable[Layout],
    start: Callable[[Layout], HandlePool],
    plan: TrialPlan,
) -> tuple[MeasuredPacking, dict[int, float]]:
    """Measures other layouts against the first, one after the other while the best one idles.

    Returns:
        The fastest, whose pool alone is still open, and every pace by its number of trainers.
    """
    best, paces = first, {first.pool.size: first.pace}
    for layout in others:
        pool = start(layout)
        packed = MeasuredPacking(pool, pool.epoch_times(plan, [plan.precision]).epoch_s)
        paces[packed.pool.size] = packed.pace
        best, slower = (packed, best) if packed.pace > best.pace else (best, packed)
        slower.pool.close()
    return best, paces


class Packings:
    """The paces that were measured on this machine."""

    def __init__(self, memory: Memory) -> None:
        self._memory = memory

    def trainers(self, workload: str) -> int | None:
        """The number of trainers that was fastest, None where nothing was measured."""
        paces = self._memory.recall(workload)
        return int(max(paces, key=lambda count: paces[count])) if paces else None

    def keep(self, workload: str, paces: Mapping[int, float]) -> None:
        """Remembers the paces, each under its number of trainers."""
        self._memory.keep(workload, {str(count): pace for count, pace in paces.items()})
