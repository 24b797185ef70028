"""The list of all studies says what each study's own summary says."""

import json
import math
from collections.abc import Mapping

from optuna.trial import TrialState, create_trial
from sqlalchemy import select, update

from tests.bench import Bench, ScriptedPool, small_study
from tuner.spec.study_spec import StudySpec
from tuner.spec.text.writer import to_yaml
from tuner.storage.studies import Catalog, DesiredState
from tuner.storage.tables import studies
from tuner.study.driver_lock import only_driver
from tuner.study.overview import StudyOverview, overview
from tuner.study.study import Study
from tuner.training.plan import Outcome


def overviews(bench: Bench) -> Mapping[str, StudyOverview]:
    records, unreadable = Catalog(bench.database).readable()
    assert not unreadable
    return {each.record.name: each for each in overview(bench.home, bench.database, records)}


def assert_same(bench: Bench) -> None:
    """Holds the overview against every study's summary."""
    seen = overviews(bench)
    assert [*seen] == Catalog(bench.database).names()
    for name, each in seen.items():
        study = Study(bench.home, bench.database, Catalog(bench.database).get(name))
        summary = study.summary()
        assert (each.tally.slots, each.tally.counts) == (summary.slots, summary.counts)
        assert each.state == study.state(summary)
        best = summary.best and (summary.best.point, summary.best.mean, summary.best.trial.number)
        told = each.best and (
            each.best.point,
            each.best.mean,
            each.best.representatives[0].number,
        )
        assert told == best


def open_two_attempts(bench: Bench, spec: StudySpec) -> None:
    """One is in progress, one was handed back."""
    bench.stack.enter_context(only_driver(bench.home, spec.name))
    driver = bench.member(spec)
    ledger, trials = bench.ledger(spec, driver), bench.trials(spec)
    for handed_back in (False, True):
        claim = ledger.claim(spec.slots, lambda _: True, lambda _: False)
        assert claim is not None
        trials.open(claim)
        if handed_back:
            ledger.close(claim.uid, Outcome.INTERRUPTED)


def add_rows(bench: Bench, spec: StudySpec) -> None:
    """Rows that Optuna keeps in another way than most, and one that nobody claimed."""
    bench.record(spec)
    storage = bench.database.storage
    study_id = storage.get_study_id_from_name(spec.name)
    for slot, value in enumerate((0.5, math.inf, -math.inf)):
        row = create_trial(state=TrialState.COMPLETE, value=value, user_attrs={"slot": slot})
        storage.create_new_trial(study_id, row)
    pruned = create_trial(state=TrialState.PRUNED, value=0.9, user_attrs={"slot": 3})
    storage.create_new_trial(study_id, pruned)
    storage.create_new_trial(study_id, create_trial(state=TrialState.COMPLETE, value=7.0))


def test_the_list_of_studies_agrees_with_each_summary(each_bench: Bench) -> None:
    each_bench.record(small_study(name="untouched"))
    each_bench.run(small_study(name="finished", trials=3, seeds=2), ScriptedPool())
    each_bench.run(small_study(name="failed", trials=1), ScriptedPool(fails=lambda _plan: True))
    each_bench.run(small_study(name="lowered", trials=3, objective="val_loss"), ScriptedPool())
    each_bench.record(small_study(name="lowered", trials=2, objective="val_loss"))
    open_two_attempts(each_bench, small_study(name="driven"))
    add_rows(each_bench, small_study(name="odd"))

    assert_same(each_bench)
    for state in (DesiredState.PAUSE, DesiredState.STOP):
        for name in Catalog(each_bench.database).names():
            Catalog(each_bench.database).set_desired_state(name, state)
        assert_same(each_bench)

    seen = overviews(each_bench)
    assert seen["driven"].tally.counts["running"] == 1
    assert {name: each.state for name, each in seen.items()} == {
        "untouched": "stopped",
        "finished": "done",
        "failed": "done",
        "lowered": "done",
        "driven": "stopping",
        "odd": "stopped",
    }
    best = seen["odd"].best
    assert best is not None
    assert (best.point, best.mean) == (1, math.inf)


def test_studies_of_other_versions_are_read_or_named_as_unreadable(each_bench: Bench) -> None:
    for name in ("yaml", "newer", "damaged"):
        each_bench.record(small_study(name=name))
    with each_bench.database.engine.begin() as connection:
        kept = dict(connection.execute(select(studies.c.name, studies.c.spec)).all())
        newer = json.dumps({**json.loads(kept["newer"]), "colour": "red"})
        texts = {"yaml": to_yaml(small_study(name="yaml")), "newer": newer, "damaged": "{"}
        for name, text in texts.items():
            connection.execute(update(studies).where(studies.c.name == name).values(spec=text))

    records, unreadable = Catalog(each_bench.database).readable()

    assert [record.spec for record in records] == [small_study(name="yaml")]
    assert "colour" in str(unreadable["newer"])
    assert "must be JSON" in str(unreadable["damaged"])
