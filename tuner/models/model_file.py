"""Model files: the only way to load a `.keras` file.

A file's hash and archive are checked before Keras reads it, because Keras' safe mode alone has been
bypassed four times (CVE-2025-1550, CVE-2025-9905, CVE-2026-1462, CVE-2026-1669).
"""

import hashlib
import os
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING

from tuner.errors import ModelError

if TYPE_CHECKING:
    import keras

_CONFIG = "config.json"
_KERAS_REFUSALS = (ValueError, TypeError, KeyError, AttributeError, OSError, ImportError)


def sha256_of(path: Path) -> str:
    """The SHA-256 of a file's bytes, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def check_hash(path: Path, sha256: str, origin: str) -> None:
    """Checks that a file is the recorded one.

    Args:
        path: the file.
        sha256: the recorded hash, in hexadecimal.
        origin: where the file came from, for the message.

    Raises:
        ModelError: the file has another hash.
    """
    found = sha256_of(path)
    if found != sha256:
        raise ModelError(
            f"{origin}: SHA-256 must be the recorded {sha256}, got {found}; "
            "the file was changed or damaged, and is not loaded"
        )


def load_verified(path: Path, sha256: str) -> "keras.Model":
    """Loads a model whose file has the recorded hash, uncompiled and in Keras' safe mode.

    Raises:
        ModelError: the file is missing, is no `.keras` archive, is not the recorded one, or has
            something that Keras refuses, such as a Lambda layer or an unknown class.
    """
    _check_form(path)
    check_hash(path, sha256, str(path))
    _check_archive(path)
    return _load(path)


def _check_form(path: Path) -> None:
    if path.is_dir():
        raise ModelError(f"{path}: must be a .keras file, got a folder (a SavedModel?)")
    if path.suffix != ".keras":
        raise ModelError(f"{path}: must be a .keras file, got {path.suffix or 'no suffix'}")
    if not path.is_file():
        raise ModelError(f"{path}: there is no such file")
    if path.stat().st_size == 0:
        raise ModelError(f"{path}: the file is empty")


def _check_archive(path: Path) -> None:
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.namelist()
    except zipfile.BadZipFile as bad:
        raise ModelError(f"{path}: is no .keras archive, or only a part of one") from bad
    if _CONFIG not in members:
        raise ModelError(f"{path}: the archive must hold {_CONFIG}, got {', '.join(members)}")


def _load(path: Path) -> "keras.Model":
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # read once, when TensorFlow is imported
    import keras

    try:
        return keras.saving.load_model(path, compile=False, safe_mode=True)
    except _KERAS_REFUSALS as error:
        raise ModelError(
            f"{path}: Keras does not load it: {_reason(error)}; what a promoted model may hold "
            "is in docs/extending.md"
        ) from error


def _reason(error: BaseException) -> str:
    """The first sentence of the error, without Keras' advice to turn safe mode off."""
    innermost = str(error).rpartition("Exception encountered: ")[2]
    return " ".join(innermost.split()).partition(". ")[0][:400]
