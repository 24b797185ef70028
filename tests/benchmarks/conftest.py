"""A table of learning curves made by a formula, in place of the recorded one."""

import math
from collections.abc import Callable
from itertools import product

import numpy as np
import pytest

from benchmarks.replays.contenders import REFERENCE, Contender, sweep
from benchmarks.replays.curves import Row, Table
from tuner.spec.study_spec import StudySpec

RATES = (1e-4, 1e-3, 1e-2)
DROPOUTS = (0.2, 0.45, 0.7)
BATCHES = (64, 128)


def rows() -> list[Row]:
    """Best near a learning rate of 1e-3 and little dropout; the replicates differ by noise."""
    rng = np.random.default_rng(0)
    return [
        Row(
            learning_rate=rate,
            dropout_rate=dropout,
            batch_size=batch,
            replicate=replicate,
            epoch=epoch,
            val_accuracy=round(accuracy(rate, dropout, epoch) + rng.normal(0, 0.001), 4),
            val_loss=1 / epoch,
            train_s=256 / batch,
            validation_s=0.5,
            beyond_s=0.25,
        )
        for rate, dropout, batch, replicate, epoch in product(
            RATES, DROPOUTS, BATCHES, range(2), range(1, 11)
        )
    ]


def accuracy(rate: float, dropout: float, epoch: int) -> float:
    return 0.99 - 0.004 * math.log10(rate / 1e-3) ** 2 - 0.01 * dropout - 0.03 / epoch


@pytest.fixture(scope="session")
def recorded() -> list[Row]:
    return rows()


@pytest.fixture(scope="session")
def table(recorded: list[Row]) -> Table:
    return Table(recorded)


@pytest.fixture
def study() -> Callable[..., StudySpec]:
    """The sweep with a contender's sampler and pruner."""

    def make(contender: Contender = REFERENCE, seed: int = 0) -> StudySpec:
        return contender.study(sweep(BATCHES), seed)

    return make
