from collections.abc import Callable
from contextlib import suppress
from functools import partialmethod
from itertools import count
from pathlib import Path

import optuna
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import update

from tests.study.conftest import Bench, ScriptedPool
from tests.waiting import wait_until
from tuner.driver.run_study import run_study
from tuner.errors import DataError, RefusedError, SpecError, UnavailableError, UsageError
from tuner.home import Home
from tuner.recording.provenance import provenance
from tuner.search import optuna_samplers, points
from tuner.spec.study_spec import StudySpec
from tuner.spec.text.writer import to_yaml
from tuner.storage.attempts import Ledger
from tuner.storage.opening import open_database
from tuner.storage.studies import Catalog, DesiredState
from tuner.storage.tables import drivers, studies
from tuner.study.driver_lock import only_driver
from tuner.study.study import Study, load_study
from tuner.study.study_file import StudyFile, check_parameters
from tuner.study.submissions import Submissions, submit_study
from tuner.tracking.settings import TrackingSettings
from tuner.tracking.shipping.shipper import Shipper

Spec = Callable[..., StudySpec]


def spec_of(trials: int, seeds: int, seed: int) -> StudySpec:
    return StudySpec.model_validate(
        {
            "name": "small",
            "dataset": "digits",
            "model": "paper-cnn",
            "search_space": {"dropout_rate": {"type": "float", "low": 0, "high": 1}},
            "trials": trials,
            "seeds": seeds,
            "seed": seed,
            "epochs": 1,
            "validation": 10,
        }
    )


def test_a_study_comes_back_as_it_was_made(each_bench: Bench, study_spec: Spec) -> None:
    made = each_bench.record(study_spec())

    found = Catalog(each_bench.database).get("small")

    assert found == made
    assert found.spec == study_spec()
    assert found.dataset == each_bench.dataset


def test_a_study_from_before_backends_were_named_keeps_its_own(
    bench: Bench, study_spec: Spec, monkeypatch: pytest.MonkeyPatch
) -> None:
    record = bench.record(study_spec())
    without = "".join(
        line for line in to_yaml(record.spec).splitlines(True) if not line.startswith("backend:")
    )
    with bench.database.engine.begin() as connection:
        connection.execute(update(studies).values(spec=without))
    monkeypatch.setenv("KERAS_BACKEND", "jax")

    assert Catalog(bench.database).get("small").spec.backend == "tensorflow"


def test_an_unknown_study_lists_the_known_ones(bench: Bench, study_spec: Spec) -> None:
    with pytest.raises(UsageError, match="no study 'small': this database holds none yet"):
        load_study("small", bench.home)
    bench.record(study_spec())

    with pytest.raises(UsageError, match=r"unknown study 'smal'; did you mean 'small'\?"):
        load_study("smal", bench.home)


def test_a_study_cannot_change_into_another(bench: Bench, study_spec: Spec) -> None:
    bench.record(study_spec())

    with pytest.raises(SpecError, match="epochs: the study was started with 3"):
        bench.record(study_spec(epochs=4))
    assert Catalog(bench.database).get("small").spec.epochs == 3


def test_a_killed_deletion_leaves_nothing_in_the_way(bench: Bench, study_spec: Spec) -> None:
    bench.record(study_spec())
    with bench.database.engine.begin() as connection:
        connection.execute(studies.delete())

    changed = study_spec(objective="val_loss")
    assert bench.record(changed).spec == changed


def test_what_may_change_is_taken_over(bench: Bench, study_spec: Spec) -> None:
    bench.record(study_spec())

    assert bench.record(study_spec(trials=9)).spec.trials == 9


def test_a_deleted_study_leaves_nothing(
    each_bench: Bench, scripted: type[ScriptedPool], study_spec: Spec
) -> None:
    each_bench.run(study_spec(), scripted())
    with load_study("small", each_bench.home) as study:
        study.test_set_accesses.begin(0, "promote", "d" * 64, "a" * 64)
        study.delete()

    assert Catalog(each_bench.database).names() == []
    assert Ledger(each_bench.database, "small").attempts() == []
    assert not each_bench.home.study("small").exists()
    assert each_bench.run(study_spec(), scripted()).counts["completed"] == 6


def test_a_deleted_study_is_shipped_no_more(
    bench: Bench, scripted: type[ScriptedPool], study_spec: Spec
) -> None:
    """What its driver left behind would make runs anew that were deleted with it."""
    bench.run(study_spec(), scripted())
    folder = bench.home.current_study("small")
    nowhere = TrackingSettings("http://127.0.0.1:9", "", "tuner")
    shipper = Shipper(folder, nowhere)
    wait_until(lambda: "events wait in the spool" in shipper.log.read_text())
    with load_study("small", bench.home) as study:
        study.delete(before=lambda: wait_until(lambda: not shipper.alive))

    assert not folder.exists()
    assert shipper.finish(lambda: 0) == 143


def test_who_follows_a_study_sees_its_end_once_its_budget_is_lowered(
    bench: Bench, scripted: type[ScriptedPool], study_spec: Spec
) -> None:
    bench.run(study_spec(trials=2), scripted())
    bench.record(study_spec(trials=6))
    asked = count()

    def lower(_: object) -> None:
        bench.record(study_spec(trials=2))

    with load_study("small", bench.home) as study:
        summary = study.follow(lower, stopped=lambda: next(asked) > 50)
    assert (summary.done, summary.slots) == (True, 2)


def test_a_running_study_is_not_deleted(bench: Bench, study_spec: Spec) -> None:
    bench.record(study_spec())

    with (
        only_driver(bench.home, "small"),
        load_study("small", bench.home) as study,
        pytest.raises(RefusedError, match="stop it"),
    ):
        study.delete()
    assert Catalog(bench.database).names() == ["small"]


def test_drivers_are_told_what_is_wanted_of_them(bench: Bench, study_spec: Spec) -> None:
    bench.record(study_spec())
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


def test_a_refused_run_leaves_a_stopped_study_stopped(bench: Bench, study_spec: Spec) -> None:
    """It is refused since its data have changed, long after the study was found."""
    bench.record(study_spec())
    catalog = Catalog(bench.database)
    catalog.set_desired_state("small", DesiredState.STOP)
    file = StudyFile(study_spec(workers=1), "study.yaml", (bench.home.root,))
    with pytest.raises(DataError, match="was started on other data"):
        run_study(file, bench.home)
    assert catalog.desired_state("small") == "stop"


def test_a_driver_on_another_machine_counts_too(bench: Bench, study_spec: Spec) -> None:
    bench.record(study_spec())
    bench.member(study_spec())
    with load_study("small", bench.home) as study:
        assert not study.is_driven()  # it was of this home, and nobody holds the home's lock
        with bench.database.engine.begin() as connection:
            connection.execute(update(drivers).values(home="another", host="elsewhere"))
        assert study.is_driven()


@pytest.mark.parametrize(
    ("point", "said"),
    [
        ({"learning_rate": 5.0}, "learning_rate: must be"),
        ({"lr": 0.1}, "unknown"),
        ({}, "at least one searched parameter"),
    ],
)
def test_only_points_of_the_search_space_wait_in_line(
    bench: Bench, study_spec: Spec, point: dict[str, float], said: str
) -> None:
    bench.record(study_spec())

    with load_study("small", bench.home) as study, pytest.raises(UsageError, match=said):
        study.enqueue(point)
    assert bench.ledger(study_spec()).queued() == 0


def test_what_was_changed_of_the_file_stays_known(each_bench: Bench, tmp_path: Path) -> None:
    spec, home = spec_of(1, 1, 0), each_bench.home
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


def test_looks_at_the_test_set_are_counted_before_they_tell(each_bench: Bench) -> None:
    each_bench.record(spec_of(1, 1, 0))
    with load_study("small", each_bench.home) as study:
        look = study.test_set_accesses.begin(3, "promote", "d" * 64, "a" * 64)
        assert [(each.trial, each.evidence) for each in study.test_set_accesses.all()] == [
            (3, None)
        ]
        assert study.test_set_accesses.evidence_of("d" * 64, "a" * 64) is None
        study.test_set_accesses.complete(look, {"test_accuracy": 0.9})

        assert study.test_set_accesses.all()[0].evidence == {"test_accuracy": 0.9}
        assert study.test_set_accesses.evidence_of("d" * 64, "a" * 64) == {"test_accuracy": 0.9}
        assert study.test_set_accesses.evidence_of("e" * 64, "a" * 64) is None


def test_ties_are_won_by_the_earlier_trial(
    bench: Bench, scripted: type[ScriptedPool], study_spec: Spec
) -> None:
    values = [0.5, 0.9, 0.9, 0.1, 0.2, 0.3]

    summary = bench.run(study_spec(), scripted(curve=lambda plan, _epoch: values[plan.slot]))

    assert summary.best is not None
    assert summary.best.trial.number == 1


@given(trials=st.integers(1, 20), seeds=st.integers(1, 5), seed=st.integers(0, 2**32 - 1))
def test_every_slot_has_one_point_and_a_seed_of_its_own(trials: int, seeds: int, seed: int) -> None:
    spec = spec_of(trials, seeds, seed)
    slots = range(spec.slots)

    assert [points.point_of(spec, slot) for slot in slots] == [slot // seeds for slot in slots]
    assert sum(points.leads(spec, slot) for slot in slots) == trials
    assert all(0 <= points.trial_seed(spec, slot) < 2**32 for slot in slots)
    distinct = {points.trial_seed(spec, slot) for slot in slots}
    assert len(distinct) == (spec.slots if seeds == 1 else seeds)
    sampled = {points.sampler_seed(spec, slot) for slot in slots}
    assert len(sampled) == trials


def test_a_gaussian_process_without_pytorch_says_what_to_install(study_spec: Spec) -> None:
    with pytest.raises(UnavailableError, match=r"pip install 'tuner\[gp\]'"):
        optuna_samplers.sampler(study_spec(sampler="gp"), seed=0)


def test_a_parameter_that_nothing_takes_is_refused(study_spec: Spec) -> None:
    spec = study_spec(search_space={"droput_rate": 0.5, "learning_rate": 0.1}, baseline=[])

    with pytest.raises(SpecError) as refused:
        check_parameters(spec, "a.yaml", {"dropout_rate": 0.5, "width": None})

    assert "a.yaml: search_space.droput_rate: unknown parameter" in str(refused.value)
    assert "did you mean 'dropout_rate'?" in str(refused.value)
    assert "needs 'width', which has no default" in str(refused.value)


def test_a_database_that_is_away_is_named_without_its_password(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TUNER_STORAGE_URL", "postgresql://ada:s3cret@127.0.0.1:1/studies")

    with pytest.raises(UnavailableError) as refused:
        open_database(home)

    assert "127.0.0.1:1/studies" in str(refused.value)
    assert "s3cret" not in str(refused.value)


def test_a_file_that_is_no_database_is_unavailable(
    home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "text").write_text("this is no database, however long it may be" * 50)
    for place in ("text", "missing/folder.db"):
        monkeypatch.setenv("TUNER_STORAGE_URL", f"sqlite:///{tmp_path / place}")
        with pytest.raises(UnavailableError, match="check TUNER_STORAGE_URL"):
            open_database(home)


@pytest.mark.parametrize("url", ["nonsense", "oracle9://x/y", "://"])
def test_an_address_that_names_no_database_is_a_usage_error(
    home: Home, monkeypatch: pytest.MonkeyPatch, url: str
) -> None:
    monkeypatch.setenv("TUNER_STORAGE_URL", url)

    with pytest.raises(UsageError, match="TUNER_STORAGE_URL: must look like"):
        open_database(home)


def test_a_home_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    blocked = Home(tmp_path / "file" / "home")
    blocked.root.parent.write_text("a file where a folder should be")

    with pytest.raises(UnavailableError, match="set TUNER_HOME"):
        blocked.create()


def test_a_home_is_for_its_owner_alone(tmp_path: Path) -> None:
    made = Home(tmp_path / "new" / "home")
    made.create()
    assert made.root.stat().st_mode & 0o777 == 0o700
    made.root.chmod(0o750)
    made.create()
    assert made.root.stat().st_mode & 0o777 == 0o750


def test_code_outside_git_has_no_revision(home: Home) -> None:
    found = provenance(home.root)

    assert (found.revision, found.uncommitted) == ("", "")
    assert "mlflow.source.git.commit" not in found.tags()


def test_optuna_trials_that_are_not_ours_are_left_alone(bench: Bench, study_spec: Spec) -> None:
    study = optuna.create_study(study_name="small", storage=bench.database.storage)
    study.optimize(lambda trial: trial.suggest_float("x", 0, 1), n_trials=1)

    with pytest.raises(RefusedError, match="choose another --name"):
        bench.record(study_spec())


def test_studies_are_listed_the_newest_last(bench: Bench, study_spec: Spec) -> None:
    for name in ("b", "a", "c"):
        bench.record(study_spec(name=name))

    with open_database(bench.home) as database:
        catalog = Catalog(database)
        assert catalog.names() == ["b", "a", "c"]
        assert Study(bench.home, database, catalog.get("a")).summary().counts["waiting"] == 6


def test_a_database_that_fails_in_the_middle_of_work_is_unavailable(
    bench: Bench, study_spec: Spec
) -> None:
    bench.record(study_spec())
    study = load_study("small", bench.home)
    with bench.database.engine.begin() as connection:
        connection.exec_driver_sql("DROP TABLE tuner_attempts")

    with pytest.raises(UnavailableError, match=r"the database failed: .*no such table"), study:
        study.summary()


def test_a_home_keeps_apart_what_studies_of_one_name_have_left(home: Home) -> None:
    for _ in range(2):
        for uid in ("one", "other"):
            home.set_current("mine", uid)
            home.set_current("mine", uid)
            assert home.current_uid("mine") == uid
            home.parent("mine").mkdir(exist_ok=True)
            left = home.parent("mine") / "spool.jsonl"
            assert not left.exists() or left.read_text() == uid
            left.write_text(uid)
    assert [former.name for former in home.former_studies("mine")] == ["one"]


FORMER_LAYOUT = {
    "uid": "one",
    "parent/spool.jsonl": "one",
    "attempts/0-0/spool.jsonl": "one",
    "former-other/parent/spool.jsonl": "other",
    "former-other/attempts/0-0/spool.jsonl": "other",
    "former-third/attempts/0-0/spool.jsonl": "third",
}
MOVES = [
    [],
    [("parent", "former-one/parent")],
    [("parent", "former-one/parent"), ("attempts", "former-one/attempts")],
    [
        ("parent", "former-one/parent"),
        ("attempts", "former-one/attempts"),
        ("former-other/parent", "parent"),
    ],
]
"""How far an earlier version got that was killed while it fetched the other study's spools."""


@pytest.mark.parametrize("moves", MOVES)
@pytest.mark.parametrize("fatal", range(12))
def test_a_home_of_an_earlier_version_is_taken_over_wherever_either_was_killed(
    moves: list[tuple[str, str]], fatal: int, home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each study has its spools, whichever comes first and after however many steps it dies."""
    folder = home.study("mine")
    for path, text in FORMER_LAYOUT.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(text)
    for source, target in moves:
        (folder / target).parent.mkdir(exist_ok=True)
        (folder / source).rename(folder / target)

    steps = count()

    def dies(path: Path, step: Callable[..., object], *given: object, **named: object) -> object:
        if next(steps) == fatal:
            raise KeyboardInterrupt
        return step(path, *given, **named)

    with monkeypatch.context() as patch:
        for name in ("mkdir", "rename", "replace", "write_text", "rmdir"):
            patch.setattr(Path, name, partialmethod(dies, getattr(Path, name)))
        with suppress(KeyboardInterrupt):
            home.set_current("mine", "other")
    owner = home.current_uid("mine")  # is asked for before anyone devotes again
    assert (home.parent("mine") / "spool.jsonl").read_text() == owner
    assert (home.attempt("mine", 0, 0) / "spool.jsonl").read_text() == owner
    for uid in ("other", "one", "third", "other"):
        home.set_current("mine", uid)
        attempt = home.attempt("mine", 0, 0) / "spool.jsonl"
        assert attempt.read_text() == uid
        parent = home.parent("mine") / "spool.jsonl"
        assert uid == "third" or parent.read_text() == uid


@pytest.mark.parametrize("marked", [True, False])
@pytest.mark.parametrize("fatal", range(7))
def test_what_an_earlier_version_left_is_found_wherever_its_taking_over_was_killed(
    fatal: int, marked: bool, home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else nobody ships it, and cleaning takes it for shipped."""
    folder = home.study("mine")
    for path in ("parent", "attempts/0-0"):
        (folder / path).mkdir(parents=True)
    if marked:
        (folder / "uid").write_text("one")
    steps = count()

    def dies(path: Path, step: Callable[..., object], *given: object, **named: object) -> object:
        if next(steps) == fatal:
            raise KeyboardInterrupt
        return step(path, *given, **named)

    with monkeypatch.context() as patch:
        for name in ("mkdir", "rename", "replace", "write_text"):
            patch.setattr(Path, name, partialmethod(dies, getattr(Path, name)))
        with suppress(KeyboardInterrupt):
            home.set_current("mine", "one")
    assert (home.parent("mine").exists(), home.attempt("mine", 0, 0).exists()) == (True, True)
    home.set_current("mine", "one")
    assert home.attempt("mine", 0, 0) == folder / "one" / "attempts" / "0-0"
    assert (home.parent("mine").exists(), home.attempt("mine", 0, 0).exists()) == (True, True)


def test_two_processes_may_devote_a_folder_at_once(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = Path.write_text

    def overtaken(path: Path, text: str) -> int:
        written = write(path, text)
        with monkeypatch.context() as another:
            another.setattr(Path, "write_text", write)
            another.setattr("os.getpid", lambda: -1)
            home.set_current("mine", "one")
        return written

    monkeypatch.setattr(Path, "write_text", overtaken)
    home.set_current("mine", "one")
    assert home.current_uid("mine") == "one"
    assert {each.name for each in home.study("mine").iterdir()} == {"one", "uid"}
