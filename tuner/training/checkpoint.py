"""Checkpoints: the state of an attempt after an epoch, on disk, for the next attempt to resume.

A checkpoint is a NumPy archive without pickles: the session's arrays, the best epoch's weights
and probabilities, and the reports as JSON. It replaces the earlier one atomically, so that a
trainer that dies at any moment leaves a complete one.
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tuner.files import replaced
from tuner.models.contract import gist
from tuner.spec.section import Frozen
from tuner.training.plan import EpochReport

_SHARE = 0.02
"""The share of the training time that checkpoints may take."""
_VERSION = 1

Array = NDArray[np.generic]


@dataclass(frozen=True)
class Checkpoint:
    """Everything that later epochs depend on."""

    reports: tuple[EpochReport, ...]
    best_epoch: int
    state: list[Array]
    """The session's arrays: weights, optimizer, random state."""
    best_weights: list[Array]
    best_probabilities: NDArray[np.float32] | None
    """Those of the validation rows, (N, classes); None without a validation split."""

    def write(self, path: Path) -> None:
        """Writes the file atomically.

        Raises:
            OSError: the disk is full, or the folder cannot be written.
        """
        arrays = _numbered("state", self.state) | _numbered("best", self.best_weights)
        if self.best_probabilities is not None:
            arrays["probabilities"] = self.best_probabilities
        head = _Head(
            version=_VERSION, best_epoch=self.best_epoch, reports=self.reports, arrays=tuple(arrays)
        )
        arrays["head"] = np.frombuffer(head.model_dump_json().encode(), np.uint8)
        with replaced(path) as partial, partial.open("wb") as file:
            np.savez(file, **arrays)  # type: ignore[arg-type]  # its stubs want a bool there

    @classmethod
    def read(cls, path: Path) -> "Checkpoint":
        """Reads a file that `write` made.

        Raises:
            ValueError: the file is damaged, or of another version.
            OSError: the file cannot be read.
        """
        try:
            # A file that NumPy opens itself and cannot read stays open.
            with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
                arrays = dict(archive)
            head = _Head.model_validate_json(arrays.pop("head").tobytes())
        except OSError:
            raise
        except Exception as error:  # readers of a damaged archive raise almost anything
            raise ValueError(f"{path}: not a whole checkpoint: {gist(error)}") from error
        if head.version != _VERSION:
            raise ValueError(f"{path}: not a checkpoint of this version")
        whole = head.arrays is None or set(head.arrays) == arrays.keys()
        if not whole or not all(isinstance(each, np.ndarray) for each in arrays.values()):
            raise ValueError(f"{path}: not a whole checkpoint: it lacks an array")
        return cls(
            reports=head.reports,
            best_epoch=head.best_epoch,
            state=_in_order("state", arrays),
            best_weights=_in_order("best", arrays),
            best_probabilities=arrays.get("probabilities"),
        )


class _Head(Frozen):
    """The part of a checkpoint that is not an array."""

    version: int
    best_epoch: int
    reports: tuple[EpochReport, ...]
    arrays: tuple[str, ...] | None = None
    """The arrays' names: each array has a checksum, but a whole array may be missing."""


class Pace:
    """Decides when a checkpoint is due: when it costs little beside the training since the last."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._cost = 0.0
        self._last = clock()

    def due(self) -> bool:
        """Whether writing one now stays within the share, if it takes as long as the last one."""
        return self._cost <= _SHARE * (self._clock() - self._last)

    def write(self, checkpoint: Checkpoint, path: Path) -> None:
        """Writes a checkpoint and measures how long that takes.

        Raises:
            OSError: the disk is full, or the folder cannot be written.
        """
        began = self._clock()
        checkpoint.write(path)
        self._last = self._clock()
        self._cost = self._last - began


def _numbered(kind: str, arrays: list[Array]) -> dict[str, Array]:
    return {f"{kind}-{number}": array for number, array in enumerate(arrays)}


def _in_order(kind: str, arrays: Mapping[str, Array]) -> list[Array]:
    count = sum(name.startswith(f"{kind}-") for name in arrays)
    return [arrays[f"{kind}-{number}"] for number in range(count)]
