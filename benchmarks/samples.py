"""Samples and what they amount to: medians, spreads, paired ratios."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

_RESAMPLES = 4000
_ENOUGH_FOR_AN_INTERVAL = 5


@dataclass(frozen=True)
class Series:
    """The samples of one measure on one subject, in the order they were taken."""

    subject: str
    """What was measured: `ours`, `model.fit float32`."""
    measure: str
    """Which quantity: `epoch`, `total`, `val_accuracy`."""
    unit: str
    """`s`, `ms`, `trial-epochs/s`; empty for a plain number."""
    samples: tuple[float, ...]

    @property
    def median(self) -> float:
        """The middle sample."""
        return float(np.median(self.samples))

    def to_json(self) -> dict[str, Any]:
        """The series as it stands in a result: summary first, raw samples last."""
        return {
            "subject": self.subject,
            "measure": self.measure,
            "unit": self.unit,
            **spread(self.samples),
            "samples": list(self.samples),
        }


@dataclass(frozen=True)
class Ratio:
    """How many times the subject's samples go into the base's, round by round.

    Above 1 the subject is faster, where the measure is a time.
    """

    subject: str
    base: str
    measure: str
    samples: tuple[float, ...]

    @property
    def median(self) -> float:
        """The middle ratio."""
        return float(np.median(self.samples))

    def interval(self) -> tuple[float, float] | None:
        """A 95% bootstrap interval of the median; None for fewer than five rounds."""
        if len(self.samples) < _ENOUGH_FOR_AN_INTERVAL:
            return None
        draws = np.random.default_rng(0).choice(self.samples, (_RESAMPLES, len(self.samples)))
        low, high = np.percentile(np.median(draws, axis=1), [2.5, 97.5])
        return float(low), float(high)

    def to_json(self) -> dict[str, Any]:
        """The ratio as it stands in a result."""
        return {
            "subject": self.subject,
            "base": self.base,
            "measure": self.measure,
            **spread(self.samples),
            "interval_95": self.interval(),
            "samples": list(self.samples),
        }


def paired_ratio(base: Series, subject: Series) -> Ratio:
    """The base's sample over the subject's in each round that both have.

    Rounds are compared with themselves, so that a machine that slows down for a while slows
    both sides of a ratio.
    """
    pairs = zip(base.samples, subject.samples, strict=True)
    ratios = tuple(theirs / ours for theirs, ours in pairs)
    return Ratio(subject.subject, base.subject, base.measure, ratios)


def spread(samples: Sequence[float]) -> dict[str, float]:
    """How many samples, their median, quartiles, smallest and largest."""
    low, q1, median, q3, high = np.percentile(samples, [0, 25, 50, 75, 100])
    return {
        "n": len(samples),
        "median": float(median),
        "min": float(low),
        "q1": float(q1),
        "q3": float(q3),
        "max": float(high),
    }
