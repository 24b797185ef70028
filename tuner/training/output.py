"""Sends what is printed, native code's output included, somewhere else for a while."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


@contextmanager
def output_to(path: Path) -> Iterator[None]:
    """Appends standard output and error to the file at `path` while entered.

    A file in which nothing came to stand is removed.
    """
    streams = (sys.stdout, sys.stderr)
    for stream in streams:
        stream.flush()
    kept = [(stream.fileno(), os.dup(stream.fileno())) for stream in streams]
    with path.open("ab", buffering=0) as log:
        for number, _ in kept:
            os.dup2(log.fileno(), number)
    try:
        yield
    finally:
        for stream in streams:
            stream.flush()
        for number, copy in kept:
            os.dup2(copy, number)
            os.close(copy)
        with suppress(FileNotFoundError):  # the study was deleted meanwhile
            if not path.stat().st_size:
                path.unlink()
