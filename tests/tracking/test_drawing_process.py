"""The process that draws figures: it does no harm where it dies, and leaves nothing behind."""

import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from multiprocessing import active_children

import pytest

from tests.tracking.recorder import evaluation, report
from tests.waiting import wait_until
from tests.workers.conftest import is_gone
from tuner.tracking.runs.drawing_process import DrawingProcess
from tuner.tracking.runs.figures import ConfusionFigure, CurvesFigure, Figure

FIGURES: list[Figure] = [
    CurvesFigure([report(1), report(2)], 2, "trial 0"),
    ConfusionFigure(evaluation(), "trial 0"),
]


@pytest.fixture
def drawing() -> Iterator[DrawingProcess]:
    with DrawingProcess() as drawing:
        yield drawing
    wait_until(lambda: not active_children())


def test_figures_are_what_they_are_when_drawn_here(drawing: DrawingProcess) -> None:
    begun = [drawing.begin(figure) for figure in FIGURES]
    assert [figure.png() for figure in begun] == [figure.png() for figure in FIGURES]


def test_figures_are_drawn_here_once_the_process_has_died(drawing: DrawingProcess) -> None:
    before = drawing.begin(FIGURES[0])
    assert before.png()
    (process,) = active_children()
    assert process.pid is not None
    pending = drawing.begin(FIGURES[1])
    os.kill(process.pid, signal.SIGKILL)
    assert pending.png() == FIGURES[1].png()
    assert drawing.begin(FIGURES[0]).png() == FIGURES[0].png()


@pytest.mark.slow
def test_it_ends_when_its_parent_is_killed() -> None:
    script = textwrap.dedent("""
        import sys
        from multiprocessing import active_children
        from tests.tracking.test_drawing_process import FIGURES
        from tuner.tracking.runs.drawing_process import DrawingProcess

        if __name__ == "__main__":
            drawing = DrawingProcess()
            drawing.begin(FIGURES[0]).png()
            print(active_children()[0].pid, flush=True)
            sys.stdin.read()
    """)
    with subprocess.Popen(
        [sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as parent:
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        parent.kill()
    wait_until(lambda: is_gone(child))
