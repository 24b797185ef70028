"""The user's code is edited while a study is not over."""

import shutil

import pytest
from mlflow import MlflowClient

from tests.faults.conftest import TESTS, Place, eventually, reached
from tuner.code import digest
from tuner.home import Home
from tuner.storage.code_versions import CodeVersions
from tuner.storage.studies import Catalog
from tuner.tracking.spool.spool import read_events
from tuner.tracking.spool.spool_events import AttemptStarted

HELPER = '"""What the model is made with."""\n\nACTIVATION = "relu"\n'
TANH = HELPER.replace("relu", "tanh")


def write_code(place: Place) -> None:
    """A model that imports a helper, inside its function, both in the study's folder."""
    shutil.copy(TESTS / "faults" / "softmax.py", place.folder / "networks.py")
    with (place.folder / "networks.py").open("a") as module:
        module.write("\n\ndef helped(*, input_shape, classes, pause_s=0.0):\n")
        module.write("    from activations import ACTIVATION  # noqa: F401\n\n")
        module.write("    return build(input_shape=input_shape, classes=classes)\n")
    (place.folder / "activations.py").write_text(HELPER)


@pytest.mark.slow
def test_a_study_goes_on_with_the_code_that_trained_it_or_with_what_is_accepted(
    place: Place,
) -> None:
    """It is stopped in its second trial, which begins again with new code."""
    write_code(place)
    place.write_study(trials=3, model="networks:helped", epochs=3, space={"pause_s": 0.03})
    driver = place.start()
    eventually(reached(place, epoch=1, slot=1))
    driver.terminate()
    assert driver.wait() == 143
    (place.folder / "activations.py").write_text(TANH)

    assert place.run() == 2
    assert place.run("elsewhere", command=("worker", "--until-done")) == 0
    for who in ("home", "elsewhere"):
        assert "--accept-new-code" in place.said(who)
        assert '-ACTIVATION = "relu"\n+ACTIVATION = "tanh"' in place.said(who)
    assert place.outcomes(1) == ["interrupted"]

    assert place.run(command=("run-study", "study.yaml", "--accept-new-code")) == 0
    place.write_study(trials=4, model="networks:helped", epochs=3, space={"pause_s": 0.03})
    assert place.run() == 0  # it is the study's code now
    place.check(trials=4)
    check_versions(place)
    told, _ = read_events(Home(place.folder / "home").attempt("fault", 1, 1))
    assert isinstance(told[0], AttemptStarted)
    assert told[0].plan.resumes is None


def check_versions(place: Place) -> None:
    """The database and MLflow tell which trials were trained with which code."""
    with place._opened() as database:
        versions = CodeVersions(database, "fault").all()
        uid = Catalog(database).get("fault").uid
    old, new = (each.digest[:12] for each in versions)
    assert [each.from_trial for each in versions] == [0, 2]
    assert [each.files["activations.py"] for each in versions] == [HELPER, TANH]
    assert versions[0].digest == digest(versions[0].files) != versions[1].digest
    client = MlflowClient(place.tracking_uri)
    experiment = client.get_experiment_by_name("tuner")
    (parent,) = client.search_runs([experiment.experiment_id], f"tags.`tuner.uid` = '{uid}'")
    assert parent.data.tags["tuner.code"] == f"{old} from trial 0, {new} from trial 2"
    stored = client.list_artifacts(parent.info.run_id, "code/from-trial-2")
    assert "code/from-trial-2/activations.py" in [each.path for each in stored]
    assert [run.data.tags["tuner.code"] for run in place.runs()] == [old, old, new, new, new]


@pytest.mark.slow
def test_no_trial_is_trained_with_code_that_changes_while_the_study_runs(place: Place) -> None:
    """Neither by a trainer that takes the place of a dead one, nor after someone accepted it."""
    write_code(place)
    place.write_study(trials=1, model="networks:helped", epochs=60, space={"pause_s": 0.03})
    driver = place.start()
    eventually(reached(place, epoch=1))
    (place.folder / "activations.py").write_text(TANH)
    place.trainers(driver)[0].kill()
    assert driver.wait() == 2
    assert "is not what the study's first trainer found" in place.said()
    assert place.outcomes() == ["lost", "interrupted"]

    (place.folder / "activations.py").write_text(HELPER)
    driver = place.start()
    eventually(lambda: len(place.outcomes()) == 3)
    with place._opened() as database:
        CodeVersions(database, "fault").update({"networks.py": ""}, trials=1, accepts=True)
    assert driver.wait() == 2
    assert "other code was accepted" in place.said()
    assert place.outcomes() == ["lost", "interrupted", "interrupted"]
