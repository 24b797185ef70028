"""Packing: how many trainers train fastest on this machine, measured once and remembered.

The default is one trainer a core, or one a GPU. A network with long steps may be faster with
several cores a trainer, and one with short steps leaves room for more trainers on its GPU. Trying
a packing costs the start of its trainers, so only long studies try.
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
    """Measurements by workload, in one JSON file of the home."""

    def __init__(self, file: Path) -> None:
        self._file = file

    def recall(self, workload: str) -> dict[str, Any]:
        """What was stored last for the workload; empty if nothing was."""
        return _entry(self._read(), workload)

    def keep(self, workload: str, measured: dict[str, Any]) -> None:
        """Replaces what is stored for the workload, if the disk has room."""
        self.change(workload, lambda _: measured)

    def change(
        self, workload: str, changed: Callable[[dict[str, Any]], dict[str, Any]]
    ) -> dict[str, Any]:
        """Replaces what is stored for the workload by `changed(stored)`, if the disk has room.

        A lock lets one process at a time do so, so that none overwrites another's measurement.

        Returns:
            What `changed` returned.
        """
        with suppress(OSError), exclusive(self._file.with_name(f"{self._file.name}.lock")):
            known = self._read()
            entry = known[workload] = changed(_entry(known, workload))
            with replacing(self._file) as file:
                file.write(json.dumps(known, indent=2).encode())
            return entry
        return changed(self.recall(workload))

    def _read(self) -> dict[str, Any]:
        """The whole file; empty if it is damaged or of another version."""
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
    """A pool with its measured speed."""

    pool: HandlePool
    epoch_s: float
    """Seconds of an epoch while all trainers are busy."""

    def seconds(self, epochs: int) -> float:
        """Seconds that all trainers together need for so many epochs."""
        return epochs / self.pace

    @property
    def pace(self) -> float:
        """Epochs a second of all trainers together."""
        return self.pool.size / self.epoch_s


def fastest(
    first: MeasuredPacking,
    others: Iterable[Layout],
    start: Callable[[Layout], HandlePool],
    plan: TrialPlan,
) -> tuple[MeasuredPacking, dict[int, float]]:
    """Measures other layouts, one after another, and keeps the fastest.

    Args:
        first: a measured pool, which is idle meanwhile.
        others: the layouts to try.
        start: starts a pool.
        plan: the plan to measure an epoch on.

    Returns:
        The fastest packing, whose pool is the only one left open, and every pace by its number of
        trainers.

    Raises:
        DataError: the plan's rows cannot be split as it says.
        ModelError: the plan's model cannot be built.
        UnavailableError: a trainer could not start, or died.
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
    """The measured paces of this machine, by workload."""

    def __init__(self, memory: Memory) -> None:
        self._memory = memory

    def trainers(self, workload: str) -> int | None:
        """The number of trainers that was fastest; None before a measurement."""
        paces = self._memory.recall(workload)
        return int(max(paces, key=lambda count: paces[count])) if paces else None

    def keep(self, workload: str, paces: Mapping[int, float]) -> None:
        """Stores the paces, by number of trainers."""
        self._memory.keep(workload, {str(count): pace for count, pace in paces.items()})
