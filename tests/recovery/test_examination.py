"""What an examination says of studies, as far as it needs no MLflow."""

import pytest
from sqlalchemy import update

from tests.bench import Bench, Clocks, small_study
from tuner.recovery.examination import Kind, examine
from tuner.storage.tables import drivers
from tuner.tracking.inspection import SeenStudy
from tuner.tracking.settings import TrackingSettings


def test_dead_drivers_of_many_studies_are_waited_for_together(
    bench: Bench, clocks: Clocks, monkeypatch: pytest.MonkeyPatch
) -> None:
    specs = [small_study(name=f"study-{n}") for n in range(5)]
    for spec in specs:
        ledger = bench.ledger(spec, bench.member(spec, lease_s=60))
        assert ledger.claim(6, ready=lambda _slot: True, takes_queued=lambda _slot: True)
    with bench.database.engine.begin() as connection:
        connection.execute(update(drivers).values(home="another", host="elsewhere"))
    clocks.now = 100.0
    records = [bench.record(spec) for spec in specs]
    empty = {record.uid: SeenStudy((), {}) for record in records}
    monkeypatch.setattr("tuner.recovery.examination.look_at", lambda *_: empty)
    nowhere = TrackingSettings("http://127.0.0.1:9", "", "tuner")

    found = examine(bench.home, bench.database, records, nowhere)

    assert [[each.kind for each in found[spec.name]] for spec in specs] == [[Kind.OPEN]] * 5
    assert 130 <= clocks.now <= 136
