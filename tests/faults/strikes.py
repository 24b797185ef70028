"""The faults of a soak, each a function that strikes once, and how often each is dealt.

A strike returns whether it could be done at the moment.
"""

import os
import random
import shutil
import signal
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import NamedTuple

import psutil

from tests.faults import champion
from tests.faults.conftest import RUN
from tests.faults.world import GUARD, LEASE_S, World
from tuner.errors import ExitCode

STOPPED_S = 1.5 * LEASE_S
DATABASE_AWAY_S, MLFLOW_AWAY_S, REFUSING_S = 60.0, 120.0, 15.0
COPIES = 2
"""So many homes are copied at most, since each copy has a driver of its own."""
ZEROED = bytes(8)
AGAIN, AGAIN_RUN = "again", ("run-study", "again.yaml")
"""The study that is deleted and run again, and the home that drives it."""


class Fault(NamedTuple):
    """What may strike."""

    name: str
    weight: int
    """How often it is dealt in one round of all."""
    strike: Callable[[World], bool]


def dealt(chance: random.Random, only: str = "") -> Iterator[Fault]:
    """Faults with that text in their names, for ever: round after round of all, each shuffled."""
    while True:
        cards = [each for each in FAULTS if only in each.name for _ in range(each.weight)]
        chance.shuffle(cards)
        yield from cards


def kill_driver(world: World) -> bool:
    if driver := world.a_driver():
        driver.process.kill()
    return driver is not None


def end_driver(world: World) -> bool:
    if driver := world.a_driver():
        driver.process.send_signal(signal.SIGTERM)
    return driver is not None


def kill_trainer(world: World) -> bool:
    driver = world.a_driver()
    with suppress(psutil.Error):  # it may have ended, or be a zombie of a stopped driver
        trainers = world.place.trainers(driver.process) if driver else []
        if trainers:
            trainers[0].kill()
            return True
    return False


def stop_driver(world: World) -> bool:
    driver = world.a_driver()
    if driver is None or world.lasts("driver stopped"):
        return False
    driver.process.send_signal(signal.SIGSTOP)

    def go_on() -> None:
        if driver.is_alive:
            driver.process.send_signal(signal.SIGCONT)

    world.later("driver stopped", STOPPED_S, go_on)
    return True


def cut_database(world: World) -> bool:
    world.database.cut()
    return True


def lose_database(world: World) -> bool:
    if world.lasts("database away"):
        return False
    world.database.refuse()
    world.later("database away", DATABASE_AWAY_S, world.database.pass_on)
    return True


def lose_mlflow(world: World, seconds: float = MLFLOW_AWAY_S) -> bool:
    if world.lasts("MLflow away"):
        return False
    world.mlflow.stop()
    world.later("MLflow away", seconds, world.mlflow.start)
    return True


def refuse_parts(world: World) -> bool:
    """An ingress answers in MLflow's place, or finds requests too large."""
    if world.lasts("MLflow away") or world.gate.refuses:
        return False
    world.gate.refuses = True
    world.later("parts refused", REFUSING_S, world.gate.stop)
    return True


def damage(world: World) -> bool:
    """Zeros over some bytes of a spool or a checkpoint, as a disk leaves them after a crash."""
    kind = world.chance.choice(["spool.jsonl", "checkpoint.npz"])
    files = sorted(world.place.folder.glob(f"*/studies/fault/*/**/{kind}"))
    if not files:
        return False
    file = world.chance.choice(files)
    with suppress(FileNotFoundError), file.open("r+b") as open_file:
        last = open_file.seek(0, os.SEEK_END) - len(ZEROED)
        open_file.seek(world.chance.randint(0, max(0, last)))
        open_file.write(ZEROED)
        if kind == "spool.jsonl":
            world.damaged.add(file)
        return True
    return False


def delete_parent_spool(world: World) -> bool:
    """Of a home whose driver is at work."""
    driver = world.a_driver()
    if driver is None:
        return False
    home = world.place.folder / driver.home
    for spool in home.glob("studies/fault/*/parent/spool.jsonl"):
        spool.unlink()
        return True
    return False


def delete_run(world: World) -> bool:
    """The study's run or one of a trial, by hand."""
    if world.lasts("MLflow away"):
        return False
    kind = world.chance.choice(["study", "trial"])
    runs = world.runs("fault", kind)
    if runs:
        world.client().delete_run(world.chance.choice(runs).info.run_id)
    return bool(runs)


def copy_home(world: World) -> bool:
    """While its driver is in an epoch; another driver then works in the copy."""
    driver = world.a_driver()
    copies = sum("copy" in home for home in world.drivers)
    if driver is None or driver.command != RUN or copies == COPIES:
        return False
    if not world.place.trainers(driver.process):
        return False
    copy = f"{driver.home}-copy-{copies}"
    with suppress(shutil.Error):  # of files that went while the others were copied
        shutil.copytree(world.place.folder / driver.home, world.place.folder / copy)
    world.start(copy)
    return True


def delete_study(world: World) -> bool:
    """Its driver is killed while MLflow is away; it is deleted and run again at once."""
    away = world.lasts("MLflow away") or world.lasts("database away")
    if away or (AGAIN in world.drivers and world.drivers[AGAIN].process.poll() != 0):
        return False
    world.trials[AGAIN] = world.trials.get(AGAIN, 1) + 2
    world.place.write_study(
        "again.yaml", name=AGAIN, trials=world.trials[AGAIN], epochs=6, space={"pause_s": 0.05}
    )
    world.start(AGAIN, AGAIN_RUN)
    before = _attempts(world)
    world.until(lambda: _attempts(world) > before)
    lose_mlflow(world, REFUSING_S)
    driver = world.drivers.pop(AGAIN).process
    driver.kill()
    driver.wait()
    code = world.run_once_answered(AGAIN, "delete", AGAIN, "--keep-runs", "--yes")
    if code != 0:
        world.wrong.append(f"tuner delete: exit {code}: {world.place.said(AGAIN)[-500:]}")
    world.start(AGAIN, AGAIN_RUN)
    return True


def _attempts(world: World) -> int:
    """How many attempts have told of an epoch."""
    spools = world.place.folder.glob(f"{AGAIN}/studies/{AGAIN}/*/attempts/*/spool.jsonl")
    return sum('"epoch-ended"' in spool.read_text() for spool in spools)


def submit_foreign_code(world: World) -> bool:
    """A study whose data set is a function of Python's own."""
    proof = world.place.folder / "it-ran"
    command = f"touch {proof}; echo {world.chance.random()}"
    touch = {"name": "subprocess:getoutput", "args": {"cmd": command}}
    world.place.write_study("touch.yaml", name="touch", dataset=touch)
    told = _refusals(world)
    if world.run("laptop", "run-study", "touch.yaml", "--detach") != 0:
        return False  # without a database
    world.until(lambda: _refusals(world) > told)
    if proof.exists():
        world.wrong.append("a worker ran a function that it should not have")
    return True


def _refusals(world: World) -> int:
    return world.place.said(GUARD).count("cannot take part in touch")


def forge_champion(world: World) -> bool:
    """Another file, or turned classes, for the champion that a study has registered."""
    if world.lasts("MLflow away"):
        return False
    with champion.forged(world.client(), world.chance):
        code = world.run_once_answered(champion.HOME, *champion.PREDICT)
    said = world.place.said(champion.HOME).splitlines()[-1]
    if code != ExitCode.DATA_OR_MODEL or champion.NOT_REGISTERED not in said:
        world.wrong.append(f"a forged champion: tuner predict ends with {code}: {said}")
    return True


FAULTS = (
    Fault("driver killed", 4, kill_driver),
    Fault("trainer killed", 4, kill_trainer),
    Fault("driver told to end", 2, end_driver),
    Fault("driver stopped for longer than its lease", 1, stop_driver),
    Fault("database connections cut", 2, cut_database),
    Fault("database away", 1, lose_database),
    Fault("MLflow killed and away", 1, lose_mlflow),
    Fault("parts refused by a proxy", 3, refuse_parts),
    Fault("8 bytes of a spool or checkpoint zeroed", 6, damage),
    Fault("the study's spool deleted", 2, delete_parent_spool),
    Fault("a run deleted in MLflow", 3, delete_run),
    Fault("a home copied and driven", 1, copy_home),
    Fault("a study deleted and run again", 2, delete_study),
    Fault("a study that names foreign code", 2, submit_foreign_code),
    Fault("a champion forged", 2, forge_champion),
)
