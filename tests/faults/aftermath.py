"""What must hold once a soak is over: nothing lost, nothing stuck, and `tuner doctor` agrees."""

import json
import re
from collections import Counter
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from mlflow.entities import Run

from tests.faults import champion
from tests.faults.misfortunes import SURVIVOR
from tests.faults.world import World
from tests.waiting import wait_until
from tuner.home import Home
from tuner.storage.attempts import Attempt
from tuner.tracking.runs.attempt_run import TRIAL_ARTIFACT
from tuner.tracking.spool.shipped import survey

_FINDING = re.compile(r"(\w+): (the study|trial (\d+), attempt (\d+)|run \w+): (.*)")
_LINES_HIT = 2
"""A damage runs over the end of a line at most once."""


@dataclass
class Aftermath:
    """What is found."""

    lost: list[str] = field(default_factory=list)
    """Trials without an end, or of which MLflow lacks something or has it twice."""
    stuck: list[str] = field(default_factory=list)
    """What is open, waits or lives still."""
    wrong: list[str] = field(default_factory=list)
    """What `tuner doctor` says and nobody did, and other things that should not be."""
    attempts: Counter[str] = field(default_factory=Counter)
    """How often attempts ended in which way."""
    survivors: int = 0
    """How many processes were ended that trainers had forked before they died."""
    excused: list[str] = field(default_factory=list)
    """What `tuner doctor` says of spools in which bytes were changed."""


def look(world: World) -> Aftermath:
    """Ends what outlived its trainer, has every home healed, and looks at everything."""
    found = Aftermath(wrong=list(world.wrong))
    found.survivors = _end_survivors(world)
    _consult_doctors(world, found)
    for study in world.trials:
        _look_at_trials(world, study, found)
        _look_at_study(world, study, found)
    _look_at_homes(world, found)
    if (code := world.run(champion.HOME, *champion.PREDICT)) != 0:
        found.wrong.append(f"the true champion: tuner predict ends with {code}")
    return found


def _end_survivors(world: World) -> int:
    """By the TUNER_HOME in their environment; a group of their own lets them outlive all else."""
    survivors = [each for each in world.place.left_over() if each.name() == SURVIVOR]
    for survivor in survivors:
        survivor.kill()
    return len(survivors)


def _look_at_trials(world: World, study: str, found: Aftermath) -> None:
    """Each slot's row, its attempts and their runs, with Optuna's and MLflow's own clients."""
    rows = {row.user_attrs["slot"]: row for row in world.place.trials(study)}
    attempts = world.place.attempts(study)
    ended = Counter(attempt.slot for attempt in attempts if attempt.final)
    for slot in range(world.trials[study]):
        state = rows[slot].state.name if slot in rows else "not there"
        if state != "COMPLETE" or ended[slot] != 1:
            found.lost.append(f"{study}: slot {slot} is {state}, ended {ended[slot]} times")
    found.attempts.update(str(attempt.outcome) for attempt in attempts)
    runs: dict[str, list[Run]] = {}
    for run in world.runs(study):
        runs.setdefault(run.data.tags["tuner.uid"], []).append(run)
    for attempt in attempts:
        name = f"{study}: attempt {attempt.slot}-{attempt.number} ({attempt.outcome})"
        theirs = runs.pop(attempt.uid, [])
        if attempt.outcome is None:
            found.stuck.append(f"{name} is open")
        elif theirs or attempt.final:
            whole = set(rows[attempt.slot].intermediate_values) if attempt.final else set[int]()
            _look_at_run(world, name, attempt, theirs, whole, found)
    found.wrong += [f"{study}: the runs of {uid} are nobody's" for uid in runs]


def _look_at_run(
    world: World, name: str, attempt: Attempt, runs: list[Run], epochs: set[int], found: Aftermath
) -> None:
    """Of an attempt that has ended: one run, one point an epoch, without a gap."""
    if len(runs) != 1:
        found.lost.append(f"{name} has {len(runs)} runs")
        return
    (run,) = runs
    if run.info.status == "RUNNING":
        found.stuck.append(f"{name} has an open run")
    if run.data.tags["tuner.state"] != attempt.outcome:
        found.lost.append(f"{name} is {run.data.tags['tuner.state']} in MLflow")
    steps = [each.step for each in world.client().get_metric_history(run.info.run_id, "loss")]
    missing = (epochs or set(range(1, max(steps, default=0)))) - set(steps)
    folder = f"{attempt.slot}-{attempt.number}"
    damages = sum(each.parent.name == folder for each in world.damaged)
    if len(steps) != len(set(steps)) or len(missing) > damages * _LINES_HIT:
        found.lost.append(f"{name} has the epochs {sorted(steps)}, lacks {sorted(missing)}")
    if attempt.final and not damages and (recorded := _recorded(world, run)) != len(epochs):
        found.lost.append(f"{name} has {recorded} of {len(epochs)} epochs in {TRIAL_ARTIFACT}")


def _recorded(world: World, run: Run) -> int:
    """How many epochs the file of it has that programs read, on the server's own disk."""
    place = Path(world.mlflow.artifacts, run.info.experiment_id, run.info.run_id, "artifacts")
    file = place / TRIAL_ARTIFACT
    return len(json.loads(file.read_text())["epochs"]) if file.exists() else 0


def _look_at_study(world: World, study: str, found: Aftermath) -> None:
    """Its own run counts all its trials and has come to its end."""
    parents = world.runs(study, "study")
    states = [(each.info.status, each.data.metrics.get("trials_completed")) for each in parents]
    if states != [("FINISHED", world.trials[study])]:
        found.stuck.append(f"{study}: its run is {states}, of {world.trials[study]} trials")


def _look_at_homes(world: World, found: Aftermath) -> None:
    """No event waits, no process lives, no file is half written, nothing has crashed."""
    for folder in _homes(world):
        home = Home(folder)
        for study in home.studies():
            if study in world.trials and (waiting := survey(home.current_study(study)).pending):
                found.stuck.append(f"{folder.name}: {waiting} events of {study} wait")
    try:
        wait_until(lambda: not world.place.left_over())
    except AssertionError:
        found.stuck += [f"process {each.pid}: {each.cmdline()}" for each in world.place.left_over()]
    found.stuck += [str(path) for path in world.place.folder.rglob("*partial-*")]
    for log in world.place.folder.rglob("*.log"):
        text = log.read_text(errors="replace") if log.parent.name != "mlflow" else ""
        if (start := text.find("Traceback")) >= 0:
            found.wrong.append(f"{log}: {text[start : start + 3000]}")


def _consult_doctors(world: World, found: Aftermath) -> None:
    """Each home's heals what it can, and has to agree in the end, but for what was damaged.

    One may have to wait for what another home's still heals.
    """
    doctor = partial(world.place.answer, "doctor", code=None)
    healed = {home: doctor("--fix", home=home.name) for home in _homes(world)}
    for home, text in healed.items():
        said = doctor(home=home.name) if _complaints(world, text) else text
        found.wrong += [f"{home.name}: tuner doctor: {each}" for each in _complaints(world, said)]
        found.excused += [each[0] for each in _FINDING.finditer(said) if _is_excused(world, each)]
        harmed = {each for each in world.damaged if each.is_relative_to(home) and _is_harmed(each)}
        unnamed = [each for each in harmed if f"{each} cannot be read" not in said]
        found.wrong += [f"{each} is damaged, and the doctor does not say so" for each in unnamed]


def _complaints(world: World, said: str) -> list[str]:
    """What it finds that nobody did, or that it says nothing of what it should."""
    found = list(_FINDING.finditer(said))
    if not found and "agree" not in said:
        return [said[-1000:]]
    return [each[0] for each in found if not _is_excused(world, each)]


def _is_excused(world: World, finding: "re.Match[str]") -> bool:
    """Whether it is of a spool in which bytes were changed, in this home or another."""
    study, about, trial, attempt, _ = finding.groups()
    if study != "fault" or trial is None:
        return about == "the study" and any(each.parent.name == "parent" for each in world.damaged)
    slots = {row.number: row.user_attrs["slot"] for row in world.place.trials()}
    folder = f"{slots[int(trial)]}-{attempt}"
    return any(each.parent.name == folder for each in world.damaged)


def _is_harmed(spool: Path) -> bool:
    """Whether it is there and has a line that is no JSON."""
    if not spool.exists():
        return False
    try:
        for line in spool.read_bytes().splitlines():
            json.loads(line)
    except ValueError:
        return True
    return False


def _homes(world: World) -> list[Path]:
    return [path.parent for path in sorted(world.place.folder.glob("*/studies"))]
