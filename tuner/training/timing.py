"""The time of an epoch, and the choice of the precision that is clearly faster.

Precisions are timed in turns, called *rounds*, so that a disturbance of the machine affects all of
them. bfloat16 is chosen if it takes less than four fifths of float32's time in the median round: it
has no other advantage, and studies in the same precision can be compared. One round decides if
a precision is one and a half times as fast; otherwise rounds follow until most of five agree.
"""

from collections.abc import Sequence
from itertools import chain
from statistics import median

from tuner.spec.section import Frozen
from tuner.training.plan import Precision

_CLEARLY = 0.8
_DECISIVE = 1.5
_ROUNDS = 5


class EpochTimes(Frozen):
    """The seconds of an epoch of one network, on one trainer or on several of one machine."""

    network: str
    """The network's architecture, see `Session.architecture`."""
    rounds: dict[Precision, tuple[float, ...]]
    """The seconds by precision, float32 first; each has the same number of rounds."""

    @classmethod
    def together(cls, measured: Sequence["EpochTimes"]) -> "EpochTimes":
        """The times of several trainers, in the precisions that all of them have measured."""
        first = measured[0]
        common = [each for each in first.rounds if all(each in one.rounds for one in measured)]
        rounds = {
            each: tuple(chain.from_iterable(one.rounds[each] for one in measured))
            for each in common
        }
        return cls(network=first.network, rounds=rounds)

    @property
    def precision(self) -> Precision:
        """The precision to train in: the first, unless another one is clearly faster."""
        first, *others = self.rounds
        return next((each for each in others if median(self._ratios(each)) < _CLEARLY), first)

    @property
    def epoch_s(self) -> float:
        """The seconds of an epoch in that precision."""
        return self.seconds(self.precision)

    def seconds(self, precision: Precision) -> float:
        """The seconds of an epoch in the median round."""
        return median(self.rounds[precision])

    @property
    def decided(self) -> bool:
        """Whether no further round is needed to choose the precision."""
        _, *others = self.rounds
        return all(_tells(self._ratios(each)) for each in others)

    def _ratios(self, precision: Precision) -> list[float]:
        """The ratio of its time to that of the first precision, by round."""
        first = next(iter(self.rounds.values()))
        return [mine / its for mine, its in zip(self.rounds[precision], first, strict=True)]


def _tells(ratios: Sequence[float]) -> bool:
    if len(ratios) == 1 and not 1 / _DECISIVE < ratios[0] < _DECISIVE:
        return True
    faster = sum(ratio < _CLEARLY for ratio in ratios)
    return max(faster, len(ratios) - faster) > _ROUNDS / 2
