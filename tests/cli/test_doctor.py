"""One study that cannot be repaired keeps no other from it."""

import os
import subprocess
import sys

import pytest
from sqlalchemy import update

from tests.cli.conftest import study_without_training
from tuner.home import Home
from tuner.storage.opening import open_database
from tuner.storage.tables import code
from tuner.study.driver_lock import only_driver


def doctor(home: Home, *arguments: str, code: int) -> str:
    done = subprocess.run(
        [sys.executable, "-P", "-m", "tuner", "doctor", *arguments],
        env={**os.environ, "TUNER_HOME": str(home.root)},
        cwd=home.root,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout + done.stderr


@pytest.mark.slow
def test_a_study_that_is_driven_or_was_changed_by_hand_keeps_no_other_from_being_repaired(
    home: Home,
) -> None:
    for name in ("driven", "changed", "sound"):
        study_without_training(home, name, trials=1)
    with open_database(home) as database, database.engine.begin() as connection:
        changed = update(code).where(code.c.study == "changed")
        connection.execute(changed.values(files={"net.py": "import os"}))
    with only_driver(home, "driven"):
        said = doctor(home, "--fix", code=1)

    assert "driven: cannot be repaired now: study 'driven' is running on this machine" in said
    assert "driven: trial 0, attempt 0: 4 of its events are not in MLflow yet" in said
    assert "changed: cannot be read: study 'changed': its code in the database is not what" in said
    assert "sound: the database, the spools here and MLflow agree" in said
    assert "error: not everything is in order: changed, driven\n" in said
