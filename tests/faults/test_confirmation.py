"""A confirmation whose drivers are killed, or that two homes work on."""

import re
import shutil

import pytest

from tests.faults.conftest import TESTS, Place
from tests.faults.kill_points import KillPoint
from tuner.storage.code_versions import CodeVersions

CONFIRM = ("confirm", "fault", "--finalists", "2", "--max-seeds", "5")
REFIT = ("promote", "fault", "--point", "1")
SPACE = {"learning_rate": {"type": "choice", "choices": [0.05, 0.01, 0.002]}}


@pytest.mark.slow
def test_a_race_that_is_killed_again_and_again_ends_with_each_training_once(
    shared_place: Place,
) -> None:
    place = shared_place
    place.write_study(
        space=SPACE, baseline=[{"learning_rate": 0.002}], sampler="grid", trials=3, epochs=3
    )
    assert place.run() == 0
    for point in (KillPoint.ROW_OPENED, KillPoint.ROW_TOLD, KillPoint.ATTEMPT_CLOSED):
        place.kill(point, command=CONFIRM)
    other = place.start("other", command=CONFIRM)
    assert place.run(command=CONFIRM) == 0
    assert other.wait() == 0
    assert "chosen for its value); point" in place.said(), "the race is decided"
    rows = place.trials("fault-confirmation")
    slots = sorted(row.user_attrs["slot"] for row in rows)
    assert slots[:9] == list(range(9))
    attempts = place.attempts("fault-confirmation")
    assert all(each.outcome is not None for each in attempts)
    assert sorted(each.slot for each in attempts if each.final) == slots


@pytest.mark.slow
def test_a_confirmation_or_refit_that_is_killed_while_it_is_created_has_the_code_of_its_study(
    place: Place,
) -> None:
    code = place.folder / "networks.py"
    shutil.copy(TESTS / "faults" / "softmax.py", code)
    place.write_study(
        space=SPACE, baseline=[{"learning_rate": 0.002}], sampler="grid", trials=3, epochs=2,
        model="networks:build",
    )  # fmt: skip
    assert place.run() == 0
    trained = code.read_text()
    for command, sibling in ((CONFIRM, "fault-confirmation"), (REFIT, "fault-refit")):
        for point in (KillPoint.STUDY_NAMED, KillPoint.CODE_NOT_STORED):
            place.kill(point, command=command)
        code.write_text(f"{trained}\n\nCHANGED = True\n")
        said = len(place.said())
        assert place.run(command=command) == 2
        assert "+CHANGED = True" in place.said()[said:], "the code is not what trained the study"
        assert not place.trials(sibling)
        code.write_text(trained)
    assert place.run(command=CONFIRM) == 0
    for point in (KillPoint.ROW_OPENED, KillPoint.ROW_TOLD):
        place.kill(point, command=REFIT)
    place.run(command=REFIT)  # it is not registered: this engine's file is not Keras'
    refit = (
        r"trial 0 of fault-refit is point 1 \(mean val_.*, n = 1\) trained on all training images"
    )
    assert re.search(refit, place.said())
    (row,) = place.trials("fault-refit")
    assert row.state.name == "COMPLETE"
    attempts = place.attempts("fault-refit")
    assert [each.final for each in attempts][-1:] == [True]
    assert sum(each.final for each in attempts) == 1
    with place._opened() as database:
        names = ("fault", "fault-confirmation", "fault-refit")
        own, *others = (
            [each.digest for each in CodeVersions(database, name).all()] for name in names
        )
    assert others == [own, own]
