"""Claims of a study: which points race for them, and what is said of them."""

import copy
import json

import numpy as np
import pytest

from tests.bench import Bench, ScriptedPool, small_study
from tuner.cli.results.show import show
from tuner.driver.confirmation import Confirmed, decide_claims
from tuner.errors import RefusedError
from tuner.search.points import replicate_of
from tuner.search.race_trials import RaceValues, values_of
from tuner.spec.samplers import Grid
from tuner.spec.study_spec import Claim, StudySpec
from tuner.storage.studies import Catalog
from tuner.storage.tables import SLOT
from tuner.study.confirmation.race_study import confirmation_of
from tuner.study.confirmation.report import ConfirmationReport, find_report
from tuner.study.overview import overview
from tuner.study.study import Study
from tuner.study.study_file import StudyFile
from tuner.study.summary import StudySummary
from tuner.tracking.spool.spool import read_events
from tuner.tracking.spool.spool_events import StudyProgressed
from tuner.training.plan import TrialPlan

CLAIMS = (
    Claim(name="4 is better", better={"learning_rate": 4}, than={"learning_rate": 1}),
    Claim(name="2 is better", better={"learning_rate": 2}, than={"learning_rate": 1}),
    Claim(
        name="4 is faster",
        better={"learning_rate": 4},
        than={"learning_rate": 2},
        metric="train_time_s",
        margin=0.1,
    ),
    Claim(name="3 is better", better={"learning_rate": 3}, than={"learning_rate": 1}),
)
GAINS = {4: 0.02, 2: -0.02, 3: 0.0012}


def reached(plan: TrialPlan, epoch: int) -> float:
    point = int(plan.params["learning_rate"])
    noise = float(np.random.default_rng((plan.seed, point)).normal(0, 0.001))
    return 0.9 + GAINS.get(point, 0.0) + noise - 0.1 * (epoch != 2)


@pytest.fixture
def spec() -> StudySpec:
    """A study that searches nothing."""
    return small_study(
        search_space={"learning_rate": {"type": "choice", "choices": [1, 2, 3, 4]}},
        baseline=[{"learning_rate": 1}],
        sampler="random",
        pruner="none",
        trials=1,
        epochs=3,
        validation=10_000,
        claims=CLAIMS,
        confirmation={"max_seeds": 6},
    )


def opened(bench: Bench, spec: StudySpec) -> Study:
    return Study(bench.home, bench.database, Catalog(bench.database).get(spec.name))


def decided(bench: Bench, spec: StudySpec) -> tuple[Study, StudySpec, ConfirmationReport]:
    bench.run(spec, ScriptedPool(curve=reached))
    study = opened(bench, spec)
    race = confirmation_of(study, {}).spec
    bench.run(race, ScriptedPool(size=2, curve=reached))
    found = find_report(study)
    assert found is not None
    return study, race, found


def test_each_claim_is_decided_and_its_points_train_no_longer(
    bench: Bench, spec: StudySpec
) -> None:
    _, race, found = decided(bench, spec)
    assert found.over
    assert [claim.verdict for claim in found.claims] == [
        "confirmed",
        "contradicted",
        "equivalent",
        "undecided",
    ]
    assert [point.params for point in found.points] == [{"learning_rate": 1}]
    first, _, _, last = found.claims
    assert first.difference is not None
    assert first.low is not None
    assert first.high is not None
    assert 0 < first.low <= first.difference <= first.high
    assert (first.seeds, last.seeds) == (5, 6)
    assert last.more_seeds
    assert "claim '3 is better' is undecided" in "\n".join(found.lines())
    rows = bench.trials(race).all()
    late = {
        row.params["learning_rate"] for row in rows if replicate_of(race, row.user_attrs[SLOT]) == 5
    }
    assert late == {1, 3}


def test_a_race_reads_each_ended_trial_once(bench: Bench, spec: StudySpec) -> None:
    _, race, _ = decided(bench, spec)
    rows = bench.trials(race).all()
    values = RaceValues(race)
    some = dict(values.of(rows[:3]))
    emptied = [copy.copy(row) for row in rows]
    for row in emptied[:3]:
        row.user_attrs = {SLOT: row.user_attrs[SLOT]}
    assert values.of(emptied) == values_of(race, rows)
    assert some.items() <= values_of(race, rows).items()
    assert all("train_time_s" in each for each in some.values())


def test_a_study_that_states_claims_goes_on_to_its_race_once_it_has_ended(
    bench: Bench, spec: StudySpec
) -> None:
    said, ran = list[str](), list[str]()

    def run(file: StudyFile) -> StudySummary:
        ran.append(file.spec.name)
        return bench.run(file.spec, ScriptedPool(size=2, curve=reached))

    def decide(spec: StudySpec, ended: StudySummary) -> Confirmed | None:
        return decide_claims(StudyFile(spec, "study.yaml", ()), ended, bench.home, run, said.append)

    interrupted = bench.run(spec, ScriptedPool(curve=reached), stopped=lambda: True)
    assert decide(spec, interrupted) is None
    ended = bench.run(spec, ScriptedPool(curve=reached))
    assert decide(spec.model_copy(update={"claims": ()}), ended) is None
    assert not ran
    raced = decide(spec, ended)
    assert raced is not None
    assert ran == ["small-confirmation"]
    assert said[0].startswith("small-confirmation: 20 to 24 trainings of about")
    assert raced.report.over
    assert next(claim.verdict for claim in raced.report.claims) == "confirmed"
    again = decide(spec, ended)
    assert again is not None
    assert again.report == raced.report
    assert len(said) == 1, "what it costs is said once"


def test_a_study_that_states_claims_and_failed_has_nothing_to_decide_them_by(
    bench: Bench, spec: StudySpec
) -> None:
    failed = bench.run(spec, ScriptedPool(fails=lambda _plan: True))
    assert failed.done
    file = StudyFile(spec, "study.yaml", ())
    assert decide_claims(file, failed, bench.home, lambda _file: failed, bench.said.append) is None


def test_claims_are_shown_in_the_list_of_studies_in_json_and_in_the_spool(
    bench: Bench,
    spec: StudySpec,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    study, race, found = decided(bench, spec)
    records, _ = Catalog(bench.database).readable()
    seen = {each.record.name: each for each in overview(bench.home, bench.database, records)}
    assert seen[race.name].state == "done"
    monkeypatch.setenv("TUNER_HOME", str(bench.home.root))
    show(study.name)
    assert "4 is better" in capsys.readouterr().out
    show(study.name, as_json=True)
    told = json.loads(capsys.readouterr().out)["confirmation"]["claims"]
    assert [each["verdict"] for each in told] == [each.verdict for each in found.claims]
    events, _ = read_events(bench.home.parent(race.name))
    progress = [event for event in events if isinstance(event, StudyProgressed)]
    assert progress[-1].claims == found.claims


@pytest.mark.slow
def test_finalists_race_beside_the_claims(bench: Bench, spec: StudySpec) -> None:
    several = spec.model_copy(update={"trials": 4, "sampler": Grid(), "claims": CLAIMS[:2]})
    study, race, found = decided(bench, several)
    assert found.chosen == found.points[0].point
    assert found.of(found.chosen).params == {"learning_rate": 4}
    assert [claim.verdict for claim in found.claims] == ["confirmed", "contradicted"]
    assert race.trials == len(race.baseline)
    assert study.summary().done


@pytest.mark.slow
def test_claims_that_changed_after_the_race_began_are_refused(
    bench: Bench, spec: StudySpec
) -> None:
    decided(bench, spec)
    changed = spec.model_copy(update={"claims": CLAIMS[:1]})
    bench.run(changed, ScriptedPool(curve=reached))
    with pytest.raises(RefusedError, match="began with other claims than small states now"):
        confirmation_of(opened(bench, changed), {})


def test_a_claim_whose_trainings_all_fail_stays_undecided_and_ends_the_race(
    bench: Bench, spec: StudySpec
) -> None:
    single = spec.model_copy(update={"claims": CLAIMS[:1]})
    bench.run(single, ScriptedPool(curve=reached))
    study = opened(bench, single)
    race = confirmation_of(study, {}).spec
    pool = ScriptedPool(curve=reached, fails=lambda plan: plan.params["learning_rate"] == 4)
    assert bench.run(race, pool).done
    found = find_report(study)
    assert found is not None
    assert (found.over, found.seeds) == (True, 3)
    assert found.claims[0].verdict == "undecided"
    assert found.claims[0].difference is None
