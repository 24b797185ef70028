"""A published data set: fetched from the first source that has its published bytes, then cached.

Nothing is believed: whatever a source or the cache gives must have the data set's digests.
"""

import logging
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tuner.datasets.dataset import Dataset, Split
from tuner.datasets.published.idx import sha256
from tuner.datasets.published.sources import Arrays, NpzFile, Source
from tuner.datasets.transform import DRAWINGS
from tuner.errors import DataError, UnavailableError
from tuner.files import exclusive, replacing

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Digests:
    """The SHA-256 of each array as an uncompressed IDX file, in hexadecimal."""

    x_train: str
    y_train: str
    x_test: str
    y_test: str

    def check(self, arrays: Arrays) -> None:
        """Checks each array against its hash.

        Raises:
            DataError: an array is not the published one; the message names the first.
        """
        for name, array in arrays._asdict().items():
            expected, found = getattr(self, name), sha256(array)
            if found != expected:
                raise DataError(f"{name} must have SHA-256 {expected}, got {found}")


@dataclass(frozen=True)
class Published:
    """A data set with published hashes, and its sources."""

    name: str
    classes: tuple[str, ...]
    digests: Digests
    sources: Sequence[Source]
    """The sources in the order in which they are tried, if the cache does not have it."""

    @property
    def cache(self) -> Path:
        """The cached copy, `$XDG_CACHE_HOME/tuner/datasets/<name>/<name>.npz`."""
        home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
        return Path(home) / "tuner" / "datasets" / self.name / f"{self.name}.npz"

    def load(self) -> Dataset:
        """Returns the verified data set; if several processes need it at once, one fetches it.

        Raises:
            DataError: no source has it; each one is listed with its reason.
            UnavailableError: the cache folder cannot be written.
        """
        try:
            arrays, source = self._cached() or self._fetched_once()
        except OSError as error:
            raise UnavailableError(
                f"{self.cache.parent}: cannot be used as a cache ({error.strerror}); "
                "set XDG_CACHE_HOME to a folder that can be written"
            ) from error
        _log.info("%s: read from %s", self.name, source)
        return Dataset(
            Split(arrays.x_train, arrays.y_train),
            Split(arrays.x_test, arrays.y_test),
            self.classes,
            source,
            DRAWINGS,
        )

    def _cached(self) -> tuple[Arrays, str] | None:
        if not self.cache.exists():
            return None
        try:
            return self._verified(NpzFile(self.cache)), str(self.cache)
        except DataError as error:
            _log.warning("%s: the cached copy is damaged, fetching again: %s", self.name, error)
            return None

    def _fetched_once(self) -> tuple[Arrays, str]:
        with exclusive(self.cache.with_name(".lock")):
            return self._cached() or self._fetched()

    def _fetched(self) -> tuple[Arrays, str]:
        failures = []
        for source in self.sources:
            try:
                _log.info("%s: trying %s", self.name, source)
                arrays = self._verified(source)
            except (DataError, OSError) as error:
                _log.info("%s: not from %s: %s", self.name, source, error)
                failures.append(f"  {source}: {error}")
                continue
            with replacing(self.cache) as file:
                np.savez(file, **arrays._asdict())
            return arrays, str(source)
        raise DataError(
            "\n".join(
                (
                    f"data set {self.name!r}: no source has it:",
                    *failures,
                    f"Give this machine access to one of them, or copy {self.cache} "
                    "from a machine that has it.",
                )
            )
        )

    def _verified(self, source: Source) -> Arrays:
        arrays = source.fetch()
        self.digests.check(arrays)
        return arrays


def keras_cache() -> Path:
    """The folder in which `keras.datasets` keeps its downloads."""
    home = os.environ.get("KERAS_HOME") or Path.home() / ".keras"
    return Path(home) / "datasets"
