from itertools import count
from pathlib import Path

import pytest
from sqlalchemy import update

from tests.bench import Bench, Clocks, ScriptedPool, small_study
from tests.waiting import wait_until
from tuner.errors import RefusedError, SpecError, UsageError
from tuner.storage.attempts import Ledger
from tuner.storage.studies import Catalog, DesiredState
from tuner.storage.tables import drivers
from tuner.storage.test_set_accesses import find_accesses
from tuner.study.driver_lock import only_driver
from tuner.study.study import load_study
from tuner.study.study_file import StudyFile, check_parameters
from tuner.study.submissions import Submissions, submit_study
from tuner.tracking.settings import TrackingSettings
from tuner.tracking.shipping.shipper import Shipper


def test_an_unknown_study_lists_the_known_ones(bench: Bench) -> None:
    with pytest.raises(UsageError, match="no study 'small': this database holds none yet"):
        load_study("small", bench.home)
    bench.record(small_study())

    with pytest.raises(UsageError, match=r"unknown study 'smal'; did you mean 'small'\?"):
        load_study("smal", bench.home)


@pytest.mark.slow_variants
def test_a_deleted_study_leaves_nothing_but_its_accesses_to_the_test_set(each_bench: Bench) -> None:
    each_bench.run(small_study(), ScriptedPool())
    with load_study("small", each_bench.home) as study:
        study.test_set_accesses.begin(0, "promote", "d" * 64, "a" * 64)
        study.delete()

    assert Catalog(each_bench.database).names() == []
    assert Ledger(each_bench.database, "small").attempts() == []
    assert not each_bench.home.study("small").exists()
    assert each_bench.run(small_study(), ScriptedPool()).counts["completed"] == 6
    (access,) = find_accesses(each_bench.database)
    assert (access.study, access.deleted) == ("small", True)
    with load_study("small", each_bench.home) as study:
        assert study.test_set_accesses.all() == [], "another study of that name"


def test_a_deleted_study_is_no_longer_shipped(bench: Bench) -> None:
    """What its driver left behind would make runs anew that were deleted with it."""
    bench.run(small_study(), ScriptedPool())
    folder = bench.home.current_study("small")
    nowhere = TrackingSettings("http://127.0.0.1:9", "", "tuner")
    shipper = Shipper(folder, nowhere)
    wait_until(lambda: "events wait in the spool" in shipper.log.read_text())
    with load_study("small", bench.home) as study:
        study.delete(before=lambda: wait_until(lambda: not shipper.alive))

    assert not folder.exists()
    assert shipper.finish(lambda: 0) == 143


def test_following_a_study_ends_when_its_budget_is_lowered_to_what_is_done(bench: Bench) -> None:
    bench.run(small_study(trials=2), ScriptedPool())
    bench.record(small_study(trials=6))
    asked = count()

    def lower(_: object) -> None:
        bench.record(small_study(trials=2))

    with load_study("small", bench.home) as study:
        summary = study.follow(lower, stopped=lambda: next(asked) > 50)
    assert (summary.done, summary.slots) == (True, 2)


def test_a_running_study_is_not_deleted(bench: Bench) -> None:
    bench.record(small_study())

    with (
        only_driver(bench.home, "small"),
        load_study("small", bench.home) as study,
        pytest.raises(RefusedError, match="stop it"),
    ):
        study.delete()
    assert Catalog(bench.database).names() == ["small"]


def test_a_study_is_deleted_once_its_driver_on_another_machine_is_dead(
    bench: Bench, clocks: Clocks
) -> None:
    bench.record(small_study())
    bench.member(small_study())
    with bench.database.engine.begin() as connection:
        connection.execute(update(drivers).values(home="another", host="elsewhere"))
    clocks.meanwhile = lambda: pytest.fail("a driver that is not overdue is not waited for")
    advice = "stop it.* if its driver on elsewhere has died, try again in 60 s"
    with load_study("small", bench.home) as study, pytest.raises(RefusedError, match=advice):
        study.delete()
    clocks.now, clocks.meanwhile = 61, lambda: None
    with load_study("small", bench.home) as study:
        study.delete()
    assert clocks.now >= 61 + 30
    with pytest.raises(UsageError, match="no study"):
        load_study("small", bench.home)


def test_a_desired_state_and_a_driver_make_the_state_of_a_study(bench: Bench) -> None:
    bench.record(small_study())
    catalog = Catalog(bench.database)
    with load_study("small", bench.home) as study:
        assert study.state(study.summary()) == "open"
        study.set_desired_state(DesiredState.STOP)
        assert study.state(study.summary()) == "stopped"
        assert not catalog.in_state(DesiredState.RUN)
        with only_driver(bench.home, "small"):
            assert study.state(study.summary()) == "stopping"
            study.set_desired_state(DesiredState.RUN)
            assert study.state(study.summary()) == "running"
            study.set_desired_state(DesiredState.PAUSE)
            assert study.state(study.summary()) == "paused"
        study.set_desired_state(DesiredState.RUN)

    assert [name for name, _uid, _text in catalog.in_state(DesiredState.RUN)] == ["small"]


def test_a_study_is_driven_by_a_driver_on_another_machine(bench: Bench) -> None:
    bench.record(small_study())
    bench.member(small_study())
    with load_study("small", bench.home) as study:
        assert not study.is_driven()  # it was of this home, and nobody holds the home's lock
        with bench.database.engine.begin() as connection:
            connection.execute(update(drivers).values(home="another", host="elsewhere"))
        assert study.is_driven()


def test_following_a_study_that_stops_ends_a_lease_after_its_last_driver_has_died(
    bench: Bench, clocks: Clocks, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On another machine, so that only its silence tells. It takes over nothing."""
    monkeypatch.setattr("tuner.study.following.time", clocks)
    bench.record(small_study())
    bench.member(small_study())
    with bench.database.engine.begin() as connection:
        connection.execute(update(drivers).values(home="another", host="elsewhere"))
    with load_study("small", bench.home) as study:
        study.set_desired_state(DesiredState.STOP)
        study.follow(lambda _: None, stopped=lambda: clocks.now > 100)
        assert 60 <= clocks.now <= 66
        assert not study.is_driven()
    with load_study("small", bench.home) as study:
        assert study.is_driven()  # one look cannot tell


@pytest.mark.parametrize(
    ("point", "said"),
    [
        ({"learning_rate": 5.0}, "learning_rate: must be"),
        ({"lr": 0.1}, "unknown"),
        ({}, "at least one searched parameter"),
    ],
)
def test_a_configuration_outside_the_search_space_is_not_queued(
    bench: Bench, point: dict[str, float], said: str
) -> None:
    bench.record(small_study())

    with load_study("small", bench.home) as study, pytest.raises(UsageError, match=said):
        study.enqueue(point)
    assert bench.ledger(small_study()).queued() == 0


def test_overrides_of_a_submission_are_recorded_with_the_study(
    each_bench: Bench, tmp_path: Path
) -> None:
    spec, home = small_study(), each_bench.home
    submitted = StudyFile(spec, "some/study.yaml", (tmp_path,), ("trials=1", "name=small"))
    assert submit_study(submitted, home)
    (waiting,) = Submissions(each_bench.database).all()
    assert waiting.overrides == submitted.overrides

    catalog = Catalog(each_bench.database)
    catalog.create(
        spec, waiting.source, waiting.code_path, each_bench.dataset, overrides=waiting.overrides
    )
    assert catalog.get("small").overrides == submitted.overrides
    assert catalog.get("small").file == tmp_path / "study.yaml"
    assert not submit_study(StudyFile(spec, "some/study.yaml", (tmp_path,)), home)
    assert catalog.get("small").overrides == ()


def test_an_access_to_the_test_set_is_counted_before_its_result_is_known(each_bench: Bench) -> None:
    each_bench.record(small_study())
    with load_study("small", each_bench.home) as study:
        look = study.test_set_accesses.begin(3, "promote", "d" * 64, "a" * 64)
        assert [(each.trial, each.evidence) for each in study.test_set_accesses.all()] == [
            (3, None)
        ]
        study.test_set_accesses.complete(look, {"test_accuracy": 0.9})

        assert study.test_set_accesses.all()[0].evidence == {"test_accuracy": 0.9}


def test_a_parameter_that_the_model_does_not_take_is_refused() -> None:
    spec = small_study(search_space={"droput_rate": 0.5, "learning_rate": 0.1}, baseline=[])

    with pytest.raises(SpecError) as refused:
        check_parameters(spec, "a.yaml", {"dropout_rate": 0.5, "width": None})

    assert "a.yaml: search_space.droput_rate: unknown parameter" in str(refused.value)
    assert "did you mean 'dropout_rate'?" in str(refused.value)
    assert "needs 'width', which has no default" in str(refused.value)
