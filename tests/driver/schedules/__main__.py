"""Whole studies on a pool that follows a script, with drivers and trainers that die at any moment.

    python -m tests.driver.schedules [--seconds 60] [--seed N]

Hypothesis generates the schedules: how large the study is, which driver goes on next, and what
befalls it. A driver runs in a thread of its own, from one event to the next, and only one at a
time. A killed one never goes on. The drivers, the ledger, the trials and the journal are those of
the program; databases and spools are real files. Only the pool and the clocks are not.

The command runs schedules on every core for a minute, and says how many it ran.
"""

import argparse
import random
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context

from rich.console import Console

from tests.driver.schedules.player import play_for
from tuner.workers.devices import usable_cores


def main() -> None:
    """Plays schedules on every core, and says how many."""
    arguments = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    arguments.add_argument("--seconds", type=float, default=60)
    arguments.add_argument("--seed", type=int, default=random.randrange(10**6))  # noqa: S311
    asked = arguments.parse_args()
    cores = len(usable_cores())
    starts = [asked.seed + core * 10**6 for core in range(cores)]
    with ProcessPoolExecutor(cores, get_context("spawn")) as processes:
        done = list(processes.map(partial(play_for, asked.seconds), starts))
    rate = round(sum(played / took_s for played, took_s in done) * 60)
    Console(highlight=False, soft_wrap=True).print(
        f"{sum(played for played, _ in done)} schedules from seed {asked.seed}, {rate} a minute on "
        f"{cores} cores: each ended with every trial, run and epoch once"
    )


if __name__ == "__main__":
    main()
