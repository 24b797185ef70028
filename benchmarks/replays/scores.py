"""What repeated replays amount to: times to a target and final accuracies, with intervals."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray
from optuna.trial import TrialState

from benchmarks.replays.clock import ReplayedStudy

_RESAMPLES = 2000

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Estimate:
    """A statistic and its 95% bootstrap interval over the repeats; infinity is a value."""

    value: float
    low: float
    high: float

    def to_json(self) -> dict[str, float | None]:
        """Infinity becomes null."""
        parts = {"value": self.value, "low": self.low, "high": self.high}
        return {name: part if np.isfinite(part) else None for name, part in parts.items()}


def target_of(studies: Sequence[ReplayedStudy]) -> float:
    """The best value that half of the repeats ended with or beat, one that a trial can have."""
    best = [study.leaders()[-1].value for study in studies]
    return float(np.quantile(best, 0.5, method="lower"))


class Race:
    """How long one contender's repeats took to a target."""

    def __init__(self, studies: Sequence[ReplayedStudy], target: float) -> None:
        times = [study.seconds_to(target) for study in studies]
        self.reached = np.array([seconds is not None for seconds in times])
        whole = [study.seconds for study in studies]
        self.spent = np.where(self.reached, np.array(times, float), whole)
        """Seconds until the target, or the whole study's where it was not reached."""

    @cached_property
    def running_time(self) -> Estimate:
        """Expected training seconds to the target, starting over after a study that missed it.

        All seconds spent over the number of successes (the expected running time of Hansen et
        al., COCO, 2016), so that a search that is quick but often misses gains nothing.
        """
        return _bootstrap(_running_time, self.spent, self.reached)

    def speed_up(self, other: "Race") -> Estimate:
        """How many times as fast this one is as `other`, on the seeds that both have run."""
        size = min(len(self.spent), len(other.spent))
        return _bootstrap(
            lambda theirs, they, ours, we: _running_time(theirs, they) / _running_time(ours, we),
            other.spent[:size],
            other.reached[:size],
            self.spent[:size],
            self.reached[:size],
        )

    def to_json(self) -> dict[str, Any]:
        """Summary and raw samples; null where a repeat missed the target."""
        times = zip(self.spent.tolist(), self.reached, strict=True)
        return {
            "reached": float(self.reached.mean()),
            "running_time_s": self.running_time.to_json(),
            "samples_s": [round(seconds, 1) if hit else None for seconds, hit in times],
        }


class Score:
    """One contender's repeats against a target."""

    def __init__(self, studies: Sequence[ReplayedStudy], target: float) -> None:
        self.race = Race(studies, target)
        self.seconds = np.array([study.seconds for study in studies])
        self.best = np.array([study.leaders()[-1].value for study in studies])
        self.expected = np.array([study.leaders()[-1].expected for study in studies])
        self.pruned = np.array(
            [sum(one.state is TrialState.PRUNED for one in study.trials) for study in studies]
        )

    def gain(self, other: "Score") -> Estimate:
        """Mean difference in the chosen trials' true accuracy, on the seeds of both."""
        size = min(len(self.expected), len(other.expected))
        return _bootstrap(np.mean, self.expected[:size] - other.expected[:size])

    def median(self, measure: str) -> Estimate:
        """The median of `seconds`, `best`, `expected` or `pruned`."""
        return _bootstrap(np.median, getattr(self, measure))

    def to_json(self) -> dict[str, Any]:
        """Summaries and raw samples."""
        return {
            "n": len(self.best),
            "to_target": self.race.to_json(),
            "seconds": self.median("seconds").to_json(),
            "best": self.median("best").to_json(),
            "expected": self.median("expected").to_json(),
            "samples": {
                "seconds": self.seconds.round(1).tolist(),
                "best": self.best.round(4).tolist(),
                "expected": self.expected.round(5).tolist(),
                "pruned": self.pruned.tolist(),
            },
        }


def _running_time(spent: Array, reached: NDArray[np.bool_]) -> float:
    return float(spent.sum() / reached.sum()) if reached.any() else np.inf


def _bootstrap(statistic: Callable[..., Any], *samples: NDArray[Any]) -> Estimate:
    """Repeats are drawn whole, so that samples of the same seed stay together."""
    size = len(samples[0])
    rng = np.random.default_rng(0)
    draws = [
        float(statistic(*(sample[picked] for sample in samples)))
        for picked in rng.integers(size, size=(_RESAMPLES, size))
    ]
    low, high = np.nanquantile(draws, [0.025, 0.975], method="nearest")
    return Estimate(float(statistic(*samples)), float(low), float(high))
