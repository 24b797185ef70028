"""Spools become exactly the runs they tell of, however often they are shipped."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.tracking.recorder import Recorder
from tests.tracking.store import Store, forget_progress, ship
from tuner.tracking.settings import TrackingSettings


def forget_nothing(_folder: Path) -> None:
    pass


def damage_progress(folder: Path) -> None:
    for path in folder.rglob("shipped.json"):
        path.write_text("")


@pytest.mark.parametrize("harm", [forget_nothing, forget_progress, damage_progress])
def test_shipping_again_adds_nothing(
    recorder: Recorder, local: TrackingSettings, harm: Callable[[Path], None]
) -> None:
    recorder.whole_study()
    ship(recorder.folder, local)
    before = Store(local).snapshot()
    harm(recorder.folder)
    assert ship(recorder.folder, local) == 0
    assert Store(local).snapshot() == before


def test_stopping_after_every_batch_changes_nothing(
    recorder: Recorder, local: TrackingSettings
) -> None:
    recorder.whole_study()
    for _ in range(40):
        if ship(recorder.folder, local, batches=5) == 0:
            break
    store = Store(local)
    assert ship(recorder.folder, local) == 0
    assert store.runs.keys() == {"sweep", "trial 0", "trial 1"}
    assert store.has_one_point_a_step()
    assert len(store.points("trial 0", "loss")) == 3


def test_another_store_gets_everything(
    recorder: Recorder, local: TrackingSettings, tmp_path: Path
) -> None:
    recorder.whole_study()
    ship(recorder.folder, local)
    (tmp_path / "mlflow.db").unlink()
    assert ship(recorder.folder, local) == 0
    assert Store(local).runs.keys() == {"sweep", "trial 0", "trial 1"}
