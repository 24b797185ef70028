"""Draws figures in a process of its own, while the shipper talks to MLflow."""

import os
import threading
from concurrent.futures import BrokenExecutor, Future, ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context, parent_process
from multiprocessing.connection import wait
from typing import Self

from tuner.tracking.runs.figures import Figure

_DRAWING_S = 60.0
"""How long to wait for a figure before drawing it in this process."""


class DrawingProcess:
    """Draws figures one after another. Starts with the first one and ends with this process.

    If it dies, for example for lack of memory, figures are drawn in this process.
    """

    def __init__(self) -> None:
        self._pool = ProcessPoolExecutor(
            1, mp_context=get_context("spawn"), initializer=_end_with_parent
        )

    def begin(self, figure: Figure) -> Figure:
        """Begins to draw the figure, once. The `png` of the returned figure waits for the end."""
        if isinstance(figure, _Begun):
            return figure
        try:
            return _Begun(figure, self._pool.submit(figure.png))
        except BrokenExecutor:
            return figure

    def close(self) -> None:
        """Ends the process. Figures that wait are not drawn."""
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
    """Ends this process when the parent is killed; a pool's worker would wait forever."""
    threading.Thread(target=_wait_for_parent, daemon=True).start()


def _wait_for_parent() -> None:
    parent = parent_process()
    assert parent is not None
    wait([parent.sentinel])
    os._exit(1)
