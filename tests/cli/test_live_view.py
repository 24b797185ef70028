"""What a person sees in a terminal while a study runs, and what stays there when it has ended."""

import io
import re
import shutil
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pyte
from rich.console import Console

from tests.cli.terminal import Terminal
from tests.faults.conftest import RUN, Place, write_digits
from tuner.cli.terminal.live_view import LiveView
from tuner.study.driver_events import SetupStep


def test_a_terminal_shows_the_trial_that_runs_and_keeps_a_line_of_each_that_ended(
    tmp_path: Path, empty_store: Path
) -> None:
    """The driver and its trainer are real processes; the network is one that trains at once."""
    write_digits(tmp_path)
    shutil.copyfile(empty_store, tmp_path / "mlflow.db")
    place = Place(tmp_path, f"sqlite:///{tmp_path}/studies.db")
    place.write_study(trials=2, space={"pause_s": 0.02})
    running, ended = (
        "  trial {} +epoch {}  val_accuracy 0",
        "trial {} completed after [^:]+: val_acc",
    )
    block = re.compile("so far|left$|no trial has completed|^  best:|^…", re.MULTILINE)
    try:
        terminal = Terminal([sys.executable, "-m", "tuner", *RUN], tmp_path, place.environment())
        first = terminal.until(lambda screen: re.search(running.format(0, "[1-4]/4"), screen))
        second = terminal.until(lambda screen: re.search(running.format(1, "2/4"), screen))
        last = terminal.until_ended()
    finally:
        place.close()

    assert re.search(r"^fault ━+ 0/2 trials .* so far about .* left$", first, re.MULTILINE)
    assert first.endswith("  no trial has completed yet")
    assert re.search(r"^fault ━+╺━+ 1/2 trials .* so far about .* left$", second, re.MULTILINE)
    assert re.search(
        r"^  best: point 0, val_accuracy 0\.\d+ \(trial 0, n = 1\)$", second, re.MULTILINE
    )
    assert not re.search(running.format(0, ""), second)
    assert len(block.findall(first)) == len(block.findall(second)) == 3, "one block at a time"

    assert terminal.process.returncode == 0
    assert not block.search(last)
    steps = ["starting 1 trainer", "measuring an epoch", ended.format(0), ended.format(1)]
    assert re.search(r"(?s)^" + r".*\n".join(steps) + r".*\nfault: 2 completed\nbest: point", last)


def test_lines_from_several_threads_stay_whole_above_the_block() -> None:
    output = io.StringIO()
    steps = [f"step {number}" for number in range(400)]
    console = Console(file=output, force_terminal=True, width=80)
    with LiveView(console) as view, ThreadPoolExecutor(8) as threads:
        list(threads.map(view.show, map(SetupStep, steps)))
    screen = pyte.Screen(80, 500)
    pyte.Stream(screen).feed(output.getvalue().replace("\n", "\r\n"))
    assert sorted(filter(None, map(str.rstrip, screen.display))) == sorted(steps)
