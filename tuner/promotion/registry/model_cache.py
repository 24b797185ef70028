"""Model files fetched from MLflow, kept under their hash: `CACHE/<sha256>.keras`.

A file is put in its place only after its hash was verified, so its name proves its content.
"""

import shutil
from collections.abc import Callable
from pathlib import Path

from tuner.files import exclusive
from tuner.models.model_file import check_hash, sha256_of


def cached(cache: Path, sha256: str, origin: str, download: Callable[[Path], Path]) -> Path:
    """The file with this hash, which is downloaded unless it is there already.

    Args:
        cache: the folder; made if missing. Safe to share between processes.
        sha256: the recorded hash, in hexadecimal.
        origin: where `download` gets the file, for messages.
        download: downloads the file into the given folder and returns its path.

    Raises:
        ModelError: the downloaded file has another hash; it is deleted.
    """
    model = cache / f"{sha256}.keras"
    if _holds(model, sha256):
        return model
    with exclusive(cache / ".lock"):
        partial = cache / ".partial"
        shutil.rmtree(partial, ignore_errors=True)  # of a process that was killed
        partial.mkdir()
        try:
            found = download(partial)
            check_hash(found, sha256, origin)
            found.replace(model)
        finally:
            shutil.rmtree(partial, ignore_errors=True)
    return model


def _holds(model: Path, sha256: str) -> bool:
    return model.is_file() and sha256_of(model) == sha256
