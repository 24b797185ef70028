"""What a trial prints, native code's output included: the file it goes to, and what is sent of it.

The file stays whole where it was written, however large. What travels of it is bounded, to another
machine or to MLflow, and nobody reads all of it into memory.
"""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

_EXCERPT_BYTES = 500_000
"""The most that is sent of a log: proxies take a megabyte unless told otherwise."""


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


def excerpt(log: Path, rest: str) -> bytes:
    """All of a short log, head and tail of a long one; an excerpt's excerpt is itself.

    Args:
        log: the file.
        rest: what became of the rest, to be written between head and tail.
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
