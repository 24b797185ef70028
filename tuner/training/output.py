"""The printed output of a trial, also that of native code: its file, and the excerpt that is sent.

The file stays complete where it was written, however large. An excerpt of bounded size goes to
another machine or to MLflow. The file is never read into memory as a whole.
"""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

_EXCERPT_BYTES = 500_000
"""The size of an excerpt: many proxies accept no more than a megabyte."""


@contextmanager
def output_to(path: Path) -> Iterator[None]:
    """Appends standard output and error to the file at `path` while entered.

    The file is removed if it stays empty.
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


def excerpt(log: Path, rest: str) -> bytes:
    """A short log whole, or the head and tail of a long one; an excerpt's excerpt is itself.

    Args:
        log: the file.
        rest: where the rest is, for the line between head and tail.

    Raises:
        OSError: the file cannot be read.
    """
    size = log.stat().st_size
    with log.open("rb") as file:
        if size <= _EXCERPT_BYTES:
            return file.read(_EXCERPT_BYTES)
        left_out = f"\n... the middle of {size:,} bytes is left out; {rest} ...\n".encode()
        half = (_EXCERPT_BYTES - len(left_out)) // 2
        head = file.read(half)
        file.seek(size - half)
        return head + left_out + file.read(half)
