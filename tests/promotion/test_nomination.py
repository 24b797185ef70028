"""A trial whose MLflow run is not known yet: its run is shipped, or it is said how to."""

import shutil
import socket
from pathlib import Path

import pytest

from tests.bench import Bench, ScriptedPool, small_study
from tuner.datasets.store import DatasetInfo
from tuner.errors import RefusedError
from tuner.home import Home
from tuner.promotion.nomination import nominate
from tuner.storage.studies import Catalog
from tuner.study.study import Study


@pytest.fixture
def dataset(digits: DatasetInfo) -> DatasetInfo:
    """Real data, which a promotion looks for."""
    return digits


@pytest.fixture
def unshipped(bench: Bench) -> Study:
    """A study of which MLflow has nothing, as a Ctrl-C leaves it at its end."""
    spec = small_study(trials=2, epochs=1, validation=0, objective="accuracy")
    bench.run(spec, ScriptedPool())
    return Study(bench.home, bench.database, Catalog(bench.database).get(spec.name))


@pytest.mark.slow
def test_what_a_ctrl_c_left_unshipped_is_shipped_before_a_trial_is_nominated(
    unshipped: Study, empty_store: Path
) -> None:
    shutil.copyfile(empty_store, unshipped.home.root / "mlflow.db")
    assert unshipped.run_ids() == []
    said: list[str] = []

    candidate = nominate(unshipped, say=said.append)

    assert "shipping what is left to MLflow" in said
    assert candidate.run_id in unshipped.run_ids()
    assert len(unshipped.run_ids()) == 2


def test_a_trial_that_another_home_has_to_ship_is_refused_with_the_command(
    unshipped: Study, bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TUNER_STORAGE_URL", f"sqlite:///{bench.home.root}/tuner.db")
    elsewhere = Home(tmp_path / "elsewhere")
    elsewhere.create()
    study = Study(elsewhere, bench.database, unshipped.record)

    with pytest.raises(RefusedError) as refused:
        nominate(study, 1)

    assert str(refused.value) == (
        "trial 1 of small: its MLflow run is not known yet; ship it on "
        f"{socket.gethostname()}, which trained it: tuner sync small; where MLflow has the run "
        "already: tuner doctor small --fix"
    )
