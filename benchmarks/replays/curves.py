"""The recorded table of learning curves, and trials drawn from it. Knows no study.

A trial between grid points gets the seed-averaged curves of the grid points around it,
interpolated linearly in the logarithm of the learning rate and in the dropout rate, at its own
batch size. On top comes one real training's deviation from its average: a replicate of one of
those grid points, drawn with the interpolation weights and stretched by sqrt(n / (n - 1)),
because a deviation from the mean of n trainings is that much too small. Interpolating single
trainings instead would average their noise away between grid points.

What is known of a trial afterwards is therefore both what a study would have seen and what
its point is worth on average.
"""

import csv
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tuner.spec.search_space import Scalar
from tuner.spec.section import Frozen

METRICS = ("val_accuracy", "val_loss")
_ACCURACY = METRICS.index("val_accuracy")

Array = NDArray[np.float64]


class Row(Frozen):
    """One epoch of one training of the table."""

    learning_rate: float
    dropout_rate: float
    batch_size: int
    replicate: int
    epoch: int
    """From 1."""
    val_accuracy: float
    val_loss: float
    train_s: float
    validation_s: float
    beyond_s: float
    """Seconds of the whole training that belong to no epoch: building, evaluating, saving."""


@dataclass(frozen=True)
class Costs:
    """Seconds of a trial, medians over the table, so that the machine's moods are left out."""

    train_s: float
    validation_s: float
    beyond_s: float

    @property
    def epoch_s(self) -> float:
        """One epoch, trained and validated."""
        return self.train_s + self.validation_s


@dataclass(frozen=True)
class Curves:
    """One trial's metrics by epoch, arrays of shape (epochs, metrics)."""

    seen: Array
    """With the noise of one training: what a study is told."""
    expected: Array
    """The mean over seeds: what the point is worth."""
    costs: Costs


class Table:
    """The grid of curves, shape (batch, rate, dropout, replicate, epoch, metric)."""

    def __init__(self, rows: Iterable[Row]) -> None:
        listed = list(rows)
        self.rates = sorted({row.learning_rate for row in listed})
        self.dropouts = sorted({row.dropout_rate for row in listed})
        self.batches = sorted({row.batch_size for row in listed})
        self.replicates = 1 + max(row.replicate for row in listed)
        self.epochs = max(row.epoch for row in listed)
        points = len(self.batches), len(self.rates), len(self.dropouts)
        self._grid = np.full((*points, self.replicates, self.epochs, len(METRICS)), np.nan)
        for row in listed:
            self._grid[self._place(row)] = [getattr(row, metric) for metric in METRICS]
        if np.isnan(self._grid).any():
            raise ValueError("the table must hold every point of its grid, epoch by epoch")
        self._mean = self._grid.mean(axis=3)
        self._costs = {size: _costs(listed, size) for size in self.batches}

    def draw(self, point: Mapping[str, Scalar], rng: np.random.Generator) -> Curves:
        """A training at `point`: its `learning_rate`, `dropout_rate` and `batch_size`.

        Raises:
            ValueError: the table was not recorded at that batch size, or the point lies
                outside of its grid.
        """
        batch = self._batch(point["batch_size"])
        weights = self._weights(float(point["learning_rate"]), float(point["dropout_rate"]))
        expected = sum(weight * self._mean[batch, i, j] for (i, j), weight in weights.items())
        (i, j) = list(weights)[rng.choice(len(weights), p=list(weights.values()))]
        noise = self._grid[batch, i, j, rng.integers(self.replicates)] - self._mean[batch, i, j]
        seen = expected + noise * np.sqrt(self.replicates / max(self.replicates - 1, 1))
        seen[:, _ACCURACY] = seen[:, _ACCURACY].round(4).clip(0, 1)  # 10,000 images
        return Curves(seen, np.asarray(expected), self._costs[self.batches[batch]])

    def noise(self) -> float:
        """The standard deviation of one training's best validation accuracy about its mean."""
        best = self._grid[..., _ACCURACY].max(axis=-1)
        return float(np.sqrt(best.var(axis=-1, ddof=1).mean()))

    def deviations(self) -> Array:
        """By how much each training's best validation accuracy differs from its point's mean.

        Stretched by sqrt(n / (n - 1)), as in `draw`.
        """
        best = self._grid[..., _ACCURACY].max(axis=-1)
        stretch = np.sqrt(self.replicates / max(self.replicates - 1, 1))
        return np.asarray((best - best.mean(axis=-1, keepdims=True)).ravel() * stretch)

    def _place(self, row: Row) -> tuple[int, ...]:
        return (
            self.batches.index(row.batch_size),
            self.rates.index(row.learning_rate),
            self.dropouts.index(row.dropout_rate),
            row.replicate,
            row.epoch - 1,
        )

    def _batch(self, size: Scalar) -> int:
        if size not in self.batches:
            raise ValueError(f"batch_size: must be one of {self.batches}, got {size}")
        return self.batches.index(int(size))

    def _weights(self, rate: float, dropout: float) -> dict[tuple[int, int], float]:
        """The grid points around a point and their shares, which sum to 1."""
        rates = _shares("learning_rate", np.log(self.rates), float(np.log(rate)))
        dropouts = _shares("dropout_rate", np.array(self.dropouts), dropout)
        return {
            (i, j): rates[i] * dropouts[j] for i, j in product(rates, dropouts)
        }  # fmt: skip


def read_table(path: Path) -> Table:
    """The table that `benchmarks.record_table` wrote."""
    with path.open(newline="", encoding="utf-8") as file:
        return Table(Row.model_validate_strings(row) for row in csv.DictReader(file))


def write_table(path: Path, rows: Iterable[Row]) -> None:
    """Writes one line an epoch."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(Row.model_fields), lineterminator="\n")
        writer.writeheader()
        writer.writerows(row.model_dump() for row in rows)


def _shares(name: str, knots: Array, at: float) -> dict[int, float]:
    """The knots beside `at` and how much each counts; one knot alone where it is met."""
    slack = 1e-9 * (knots[-1] - knots[0] + 1)
    if not knots[0] - slack <= at <= knots[-1] + slack:
        raise ValueError(f"{name}: must be within the table's grid, got {at}")
    right = int(np.clip(np.searchsorted(knots, at), 1, len(knots) - 1))
    share = float(np.clip((at - knots[right - 1]) / (knots[right] - knots[right - 1]), 0, 1))
    return {knot: w for knot, w in ((right - 1, 1 - share), (right, share)) if w > 0}


def _costs(rows: Iterable[Row], batch_size: int) -> Costs:
    mine = [row for row in rows if row.batch_size == batch_size]
    return Costs(
        *(
            float(np.median([getattr(row, name) for row in mine]))
            for name in ("train_s", "validation_s", "beyond_s")
        )
    )
