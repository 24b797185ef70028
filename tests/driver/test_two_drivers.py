"""Two drivers, each a process with a home of its own, on one study in one database."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.bench import Bench, small_study
from tuner.home import Home
from tuner.search.trials import stored_result
from tuner.spec.study_spec import StudySpec
from tuner.tracking.spool.spool import read_events
from tuner.tracking.spool.spool_events import StudyProgressed

SEEDS = 3
TRIALS = 8 * SEEDS
"""Of fewer points than importance needs, which takes each driver seconds to load."""
PROGRAM = """
import sys, time
from pathlib import Path
from tests.bench import Bench, ScriptedPool, rising
from tuner.datasets.store import DatasetInfo
from tuner.home import Home
from tuner.spec.study_spec import StudySpec
from tuner.storage.opening import open_database

home, spec, dataset = Home(Path(sys.argv[1])), sys.argv[2], sys.argv[3]

def slowly(plan, epoch):
    time.sleep(0.02)
    return rising(plan, epoch)

print("ready", flush=True)
sys.stdin.readline()
with open_database(home) as database:
    bench = Bench(home, database, DatasetInfo.model_validate_json(dataset))
    bench.run(StudySpec.model_validate_json(spec), ScriptedPool(size=3, curve=slowly), lease_s=6)
"""


@pytest.mark.slow_variants
def test_two_drivers_share_the_trials_of_a_study_and_end_with_exactly_as_many(
    each_bench: Bench, tmp_path: Path
) -> None:
    spec = small_study(trials=TRIALS // SEEDS, seeds=SEEDS, sampler="tpe", pruner="median")
    each_bench.record(spec)
    homes = [Home(tmp_path / name) for name in ("one", "other")]
    drivers = [_started(each_bench, home, spec) for home in homes]
    for driver in drivers:
        assert driver.stdout is not None
        assert driver.stdout.readline() == "ready\n"
    for driver in drivers:
        assert driver.stdin is not None
        driver.stdin.write("go\n")
        driver.stdin.flush()
    for driver in drivers:
        _, complaint = driver.communicate()
        assert driver.returncode == 0, complaint

    rows = each_bench.trials(spec).all()
    assert [row.number for row in rows] == list(range(TRIALS))
    assert sorted(row.user_attrs["slot"] for row in rows) == list(range(TRIALS))
    assert all(row.state.is_finished() and stored_result(row).epochs for row in rows)
    attempts = each_bench.ledger(spec).attempts()
    assert len({attempt.driver for attempt in attempts}) == len(drivers)
    assert max(_trials_told(home) for home in homes) == TRIALS


def _started(bench: Bench, home: Home, spec: StudySpec) -> "subprocess.Popen[str]":
    url = os.environ.get("TUNER_STORAGE_URL") or f"sqlite:///{bench.home.database}"
    arguments = [str(home.root), spec.model_dump_json(), bench.dataset.model_dump_json()]
    return subprocess.Popen(
        [sys.executable, "-c", PROGRAM, *arguments],
        env={**os.environ, "TUNER_STORAGE_URL": url},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def _trials_told(home: Home) -> int:
    events, _ = read_events(home.parent("small"))
    progress = [event for event in events if isinstance(event, StudyProgressed)]
    return len({trial.number for event in progress for trial in event.trials})
