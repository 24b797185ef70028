"""Checkpoints come back as they were written, or not at all."""

from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from tuner.training.checkpoint import Checkpoint, Pace
from tuner.training.plan import EpochReport

ARRAYS = st.lists(
    arrays.arrays(
        st.sampled_from([np.float32, np.float16, np.uint32, np.int64]),
        arrays.array_shapes(min_dims=0, max_dims=3, min_side=0),
    ),
    max_size=12,
)


def report(epoch: int, loss: float = 0.5) -> EpochReport:
    return EpochReport(
        epoch=epoch,
        metrics={"loss": loss},
        train_s=1.0,
        validation_s=0.1,
        finished_ms=1_700_000_000_000 + epoch,
    )


def checkpoint(size: int = 3) -> Checkpoint:
    return Checkpoint((report(1),), 1, [np.ones(size)], [np.zeros(size)], None)


@given(
    state=ARRAYS,
    best=ARRAYS,
    losses=st.lists(st.floats(0, 10), min_size=1, max_size=30),
    probabilities=st.none() | arrays.arrays(np.float32, (3, 10)),
)
def test_it_comes_back_as_it_was_written(
    tmp_path_factory: pytest.TempPathFactory,
    state: list[np.ndarray],
    best: list[np.ndarray],
    losses: list[float],
    probabilities: np.ndarray | None,
) -> None:
    path = tmp_path_factory.mktemp("checkpoint") / "checkpoint.npz"
    reports = tuple(report(epoch, loss) for epoch, loss in enumerate(losses, start=1))
    written = Checkpoint(reports, len(reports), state, best, probabilities)
    written.write(path)
    read = Checkpoint.read(path)
    assert (read.reports, read.best_epoch) == (reports, len(reports))
    for mine, other in ((read.state, state), (read.best_weights, best)):
        assert len(mine) == len(other)
        for one, two in zip(mine, other, strict=True):
            assert one.dtype == two.dtype
            np.testing.assert_array_equal(one, two)
    assert (read.best_probabilities is None) == (probabilities is None)
    assert [each.name for each in path.parent.iterdir()] == [path.name]


@pytest.mark.parametrize("damage", ["empty", "cut", "text", "other"])
def test_a_damaged_file_is_refused(tmp_path: Path, damage: str) -> None:
    path = tmp_path / "checkpoint.npz"
    checkpoint(1000).write(path)
    whole = path.read_bytes()
    if damage == "other":
        np.savez(path, weights=np.ones(3))
    else:
        path.write_bytes({"empty": b"", "cut": whole[: len(whole) // 2], "text": b"a"}[damage])
    with pytest.raises(ValueError, match="checkpoint"):
        Checkpoint.read(path)


@given(data=st.data())
def test_damage_anywhere_is_refused_or_harmless(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    path = tmp_path_factory.mktemp("checkpoint") / "checkpoint.npz"
    written = Checkpoint((report(1),), 1, [np.ones(3)], [np.zeros(2)], np.ones((2, 2), np.float32))
    written.write(path)
    whole = path.read_bytes()
    # The directory at the end has no checksum.
    at = data.draw(st.integers(0, len(whole) - 1) | st.integers(len(whole) - 300, len(whole) - 1))
    flipped = bytes([whole[at] ^ data.draw(st.integers(1, 255))])
    end = whole[at + data.draw(st.integers(1, 8)) :]
    path.write_bytes(whole[:at] + data.draw(st.sampled_from([flipped + whole[at + 1 :], end])))
    with suppress(ValueError, OSError):
        read = Checkpoint.read(path)
        assert (read.reports, read.best_epoch) == (written.reports, 1)
        np.testing.assert_array_equal(read.state, written.state)
        np.testing.assert_array_equal(read.best_weights, written.best_weights)
        np.testing.assert_array_equal(read.best_probabilities, written.best_probabilities)


def test_a_write_that_fails_leaves_the_one_before(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.npz"
    checkpoint().write(path)
    before = path.read_bytes()
    (tmp_path / ".partial-checkpoint.npz").mkdir()
    with pytest.raises(OSError, match="partial"):
        checkpoint(4).write(path)
    assert path.read_bytes() == before


def test_checkpoints_take_a_fiftieth_of_the_time_at_most(tmp_path: Path) -> None:
    """On a clock on which each write takes 1 s and each epoch 10 s."""
    times = iter([0.0, 10.0, 10.0, 11.0, *(11.0 + 10 * epoch for epoch in range(1, 6))])
    pace = Pace(clock=lambda: next(times))
    assert pace.due()
    pace.write(checkpoint(), tmp_path / "checkpoint.npz")
    assert [pace.due() for _ in range(5)] == [False, False, False, False, True]
