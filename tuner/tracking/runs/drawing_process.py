"""A process of its own that draws figures, while this one talks to MLflow."""

import os
import threading
from concurrent.futures import BrokenExecutor, Future, ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context, parent_process
from multiprocessing.connection import wait
from typing import Self

from tuner.tracking.runs.figures import Figure

_DRAWING_S = 60.0
"""How long a figure is waited for before it is drawn here."""


class DrawingProcess:
    """Draws figures one after the other; it begins with the first and ends with this process.

    If it dies, by the machine's lack of memory for instance, figures are drawn here.
    """

    def __init__(self) -> None:
        self._pool = ProcessPoolExecutor(
            1, mp_context=get_context("spawn"), initializer=_end_with_parent
        )

    def begin(self, figure: Figure) -> Figure:
        """Lets the drawing begin, unless it has; the figure's `png` then waits for its end."""
        if isinstance(figure, _Begun):
            return figure
        try:
            return _Begun(figure, self._pool.submit(figure.png))
        except BrokenExecutor:
            return figure

    def close(self) -> None:
        """Ends the process; what has not been drawn by then is not drawn."""
        self._pool.shutdown(cancel_futures=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *raised: object) -> None:
        self.close()


@dataclass(frozen=True)
class _Begun:
    figure: Figure
    drawn: "Future[bytes]"

    def png(self) -> bytes:
        try:
            return self.drawn.result(_DRAWING_S)
        except (BrokenExecutor, TimeoutError):
            return self.figure.png()


def _end_with_parent() -> None:
    """A killed parent leaves a worker of the pool waiting for ever; this one ends."""
    threading.Thread(target=_wait_for_parent, daemon=True).start()


def _wait_for_parent() -> None:
    parent = parent_process()
    assert parent is not None
    wait([parent.sentinel])
    os._exit(1)
