"""How many trainers a machine trains fastest with: measured once, then remembered.

One trainer a core is the rule on processors and one a GPU on GPUs, but a network whose steps
are long may want several cores, and one whose steps are short leaves room on its GPU. Trying
a packing costs the start of its trainers, so it is done where the study is long enough to win
that back.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from tuner.training.plan import TrialPlan
from tuner.workers.devices import Device
from tuner.workers.handle_pool import HandlePool
from tuner.workers.memory import Memory

Layout = Sequence[Device]


@dataclass(frozen=True)
class Packed:
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
    first: Packed, others: Iterable[Layout], start: Callable[[Layout], HandlePool], plan: TrialPlan
) -> tuple[Packed, dict[int, float]]:
    """Measures other layouts against the first, one after the other while the best one idles.

    Returns:
        The fastest, whose pool alone is still open, and every pace by its number of trainers.
    """
    best, paces = first, {first.pool.size: first.pace}
    for layout in others:
        pool = start(layout)
        packed = Packed(pool, pool.epoch_times(plan, [plan.precision]).epoch_s)
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
