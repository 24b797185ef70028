"""The studies that a database holds, and what of them may change."""

import optuna
import pytest
from sqlalchemy import update

from tests.bench import Bench, small_study
from tuner.errors import RefusedError, SpecError
from tuner.spec.text.writer import to_yaml
from tuner.storage.opening import open_database
from tuner.storage.studies import Catalog
from tuner.storage.tables import studies
from tuner.study.study import Study


def test_a_study_is_read_as_it_was_written(each_bench: Bench) -> None:
    made = each_bench.record(small_study())

    found = Catalog(each_bench.database).get("small")

    assert found == made
    assert found.spec == small_study()
    assert found.dataset == each_bench.dataset


def test_a_study_recorded_without_a_backend_is_one_of_tensorflow(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    record = bench.record(small_study())
    without = "".join(
        line for line in to_yaml(record.spec).splitlines(True) if not line.startswith("backend:")
    )
    with bench.database.engine.begin() as connection:
        connection.execute(update(studies).values(spec=without))
    monkeypatch.setenv("KERAS_BACKEND", "jax")

    assert Catalog(bench.database).get("small").spec.backend == "tensorflow"


def test_a_setting_that_must_not_change_is_refused(bench: Bench) -> None:
    bench.record(small_study())

    with pytest.raises(SpecError, match="epochs: the study was started with 3"):
        bench.record(small_study(epochs=4))
    assert Catalog(bench.database).get("small").spec.epochs == 3


def test_a_study_can_be_created_again_after_a_killed_deletion(bench: Bench) -> None:
    bench.record(small_study())
    with bench.database.engine.begin() as connection:
        connection.execute(studies.delete())

    changed = small_study(objective="val_loss")
    assert bench.record(changed).spec == changed


def test_a_setting_that_may_change_is_changed(bench: Bench) -> None:
    bench.record(small_study())

    assert bench.record(small_study(trials=9)).spec.trials == 9


def test_a_name_that_another_optuna_study_has_is_refused(bench: Bench) -> None:
    study = optuna.create_study(study_name="small", storage=bench.database.storage)
    study.optimize(lambda trial: trial.suggest_float("x", 0, 1), n_trials=1)

    with pytest.raises(RefusedError, match="choose another --name"):
        bench.record(small_study())


def test_studies_are_listed_with_the_newest_last(bench: Bench) -> None:
    for name in ("b", "a", "c"):
        bench.record(small_study(name=name))

    with open_database(bench.home) as database:
        catalog = Catalog(database)
        assert catalog.names() == ["b", "a", "c"]
        assert Study(bench.home, database, catalog.get("a")).summary().counts["waiting"] == 6
