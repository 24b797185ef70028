"""Confirmations: which points race, on what, and what is said of it."""

import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from tests.bench import Bench, Curve, ScriptedPool, small_study
from tuner.cli.results.show import show
from tuner.driver.run_study import run_study
from tuner.errors import RefusedError, SpecError
from tuner.search.race import Verdict
from tuner.spec.objective import Objective
from tuner.spec.study_spec import StudySpec
from tuner.storage.code_versions import CodeVersions
from tuner.storage.studies import Catalog
from tuner.study.confirmation.race_study import confirmation_of, forecast
from tuner.study.confirmation.report import chosen_training, find_report
from tuner.study.study import Study
from tuner.study.study_file import StudyFile
from tuner.study.submissions import submit_study
from tuner.training.plan import MODEL, TrialPlan

SPACE = {"learning_rate": {"type": "choice", "choices": [1, 2, 3, 4, 5]}, "batch_size": 32}
BASELINE = 1


def curve(gains: dict[int, float], luck: dict[int, float], best_epoch: int = 2) -> Curve:
    """Of points with these gains; a training of the study itself has luck besides."""

    def value(plan: TrialPlan, epoch: int) -> float:
        point = int(plan.params["learning_rate"])
        noise = float(np.random.default_rng((plan.seed, point)).normal(0, 0.001))
        own = luck.get(point, 0.0) if plan.counts == "best" else 0.0
        return 0.9 + gains.get(point, 0.0) + noise + own - 0.1 * abs(epoch - best_epoch)

    return value


@pytest.fixture
def spec() -> StudySpec:
    return small_study(
        search_space=SPACE,
        baseline=[{"learning_rate": BASELINE}],
        sampler="grid",
        trials=5,
        epochs=5,
        validation=10_000,
    )


def confirmed(
    bench: Bench,
    spec: StudySpec,
    opened: Callable[[StudySpec], Study],
    curve: Curve,
    pool: ScriptedPool | None = None,
    **rules: Any,
) -> Study:
    bench.run(spec, ScriptedPool(curve=curve))
    study = opened(spec)
    file = confirmation_of(study, rules)
    bench.run(file.spec, pool or ScriptedPool(size=2, curve=curve))
    return study


def test_a_real_gain_is_confirmed_and_luck_is_not(
    bench: Bench, spec: StudySpec, opened: Callable[[StudySpec], Study]
) -> None:
    luck = curve(gains={4: 0.02}, luck={2: 0.05, 3: 0.01})
    study = confirmed(bench, spec, opened, luck, finalists=3)
    summary = study.summary()
    best = summary.best
    assert best is not None
    assert best.params["learning_rate"] == 2, "luck looked best"
    found = find_report(study)
    assert found is not None
    assert found.over
    assert found.verdict is Verdict.BETTER
    chosen = found.of(found.chosen)
    assert chosen.params == {"learning_rate": 4}
    assert chosen.finding is not None
    assert chosen.finding.interval.low <= 0.02 <= chosen.finding.interval.high
    assert found.points[0] == chosen
    assert {each.params["learning_rate"] for each in found.points} == {1, 2, 3, 4}
    assert found.best_single.number == best.trial.number
    text = "\n".join(found.lines())
    assert f"point {found.chosen} is better than the baseline: val_accuracy +0.0" in text
    assert f"trial {best.trial.number}, chosen for its value" in text


@pytest.mark.slow
def test_a_smaller_loss_is_better_and_is_shown_as_a_smaller_one(
    bench: Bench, spec: StudySpec, opened: Callable[[StudySpec], Study]
) -> None:
    loss = spec.model_copy(update={"objective": Objective(metric="val_loss")})
    smaller = curve(gains={4: -0.02}, luck={}, best_epoch=1)
    study = confirmed(bench, loss, opened, smaller, finalists=4)
    found = find_report(study)
    assert found is not None
    assert found.verdict is Verdict.BETTER
    assert found.of(found.chosen).params == {"learning_rate": 4}
    assert found.of(found.chosen).mean == min(each.mean or 0.0 for each in found.points)
    assert "is better than the baseline: val_loss -0.0" in "".join(found.lines())


def test_without_a_gain_the_baseline_is_chosen_and_what_would_decide_is_said(
    bench: Bench, spec: StudySpec, opened: Callable[[StudySpec], Study]
) -> None:
    study = confirmed(bench, spec, opened, curve({4: 0.0013}, {4: 0.03}), max_seeds=5, finalists=1)
    found = find_report(study)
    assert found is not None
    assert found.chosen == found.baseline == 0
    assert found.verdict is Verdict.UNDECIDED
    assert found.more_seeds
    leader, other = (each.point for each in found.points)
    assert found.not_told_from(1) == (("baseline",) if leader == 1 else ("best", "baseline"))
    assert found.not_told_from(0) == (("best",) if other == 0 else ())
    text = "\n".join(found.lines())
    assert "no gain over the baseline was shown" in text
    assert "point 0, the baseline, has a mean of" in text
    assert f"about {found.more_seeds} more seeds of both would probably decide" in text


def test_a_finalist_that_falls_behind_at_once_is_said_to(
    bench: Bench, spec: StudySpec, opened: Callable[[StudySpec], Study]
) -> None:
    study = confirmed(bench, spec, opened, curve({4: -0.02}, {4: 0.05}), finalists=1)
    found = find_report(study)
    assert found is not None
    assert (found.seeds, found.chosen, found.verdict) == (3, found.baseline, None)
    assert "no gain over the baseline was shown; point 1 fell behind it" in "".join(found.lines())


def test_the_race_trains_the_epochs_that_the_study_has_learnt_on_fresh_seeds(
    bench: Bench, spec: StudySpec, opened: Callable[[StudySpec], Study]
) -> None:
    patient = spec.model_copy(update={"search_space": {**spec.search_space, "patience": 3}})
    pool = ScriptedPool(curve=curve({}, {}, best_epoch=3))
    bench.run(patient, pool)
    study = opened(patient)
    file = confirmation_of(study, {})
    assert file.spec.epochs == 3
    assert "patience" not in file.spec.search_space
    race = ScriptedPool(curve=curve({}, {}, best_epoch=3))
    bench.run(file.spec, race)
    own, fresh = ({plan.seed for plan in each.submitted} for each in (pool, race))
    assert not own & fresh
    assert bench.record(file.spec).dataset == study.record.dataset


def test_a_confirmation_says_what_it_costs(
    bench: Bench, spec: StudySpec, opened: Callable[[StudySpec], Study]
) -> None:
    bench.run(spec, ScriptedPool(curve=curve({}, {})))
    study = opened(spec)
    file = confirmation_of(study, {"finalists": 2, "max_seeds": 5})
    cost = forecast(study, file.spec)
    assert cost is not None
    assert (cost.fewest, cost.most) == (9, 15)
    assert cost.training_s == pytest.approx(1.2 / 5 * 2)
    each = "of about 0.48 s each, as many at a time as trainers start"
    assert str(cost) == f"9 to 15 trainings {each}"
    certain = cost.model_copy(update={"fewest": 15})
    assert str(certain) == f"15 trainings {each}"


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"validation": 0, "objective": "accuracy"}, "no validation images"),
        ({"trials": 1, "sampler": "random"}, "a single point"),
    ],
)
def test_what_cannot_be_compared_is_refused(
    bench: Bench, opened: Callable[[StudySpec], Study], changes: dict[str, Any], why: str
) -> None:
    changed = small_study(
        **{"search_space": SPACE, "baseline": [{"learning_rate": BASELINE}], "sampler": "grid"}
        | {"trials": 5}
        | changes
    )
    accuracy = curve({}, {})
    bench.run(changed, ScriptedPool(curve=accuracy))
    with pytest.raises(RefusedError, match=why):
        confirmation_of(opened(changed), {})


def test_one_finalist_without_a_baseline_has_nothing_to_race_against(
    bench: Bench, opened: Callable[[StudySpec], Study]
) -> None:
    spec = small_study(search_space=SPACE, baseline=[], sampler="grid", trials=5)
    bench.run(spec, ScriptedPool(curve=curve({}, {})))
    with pytest.raises(RefusedError, match="one finalist and no baseline leave nothing to compare"):
        confirmation_of(opened(spec), {"finalists": 1})
    assert confirmation_of(opened(spec), {"finalists": 2}).spec.trials == 2


def test_the_longest_name_of_a_new_study_has_room_for_its_confirmation(
    bench: Bench, spec: StudySpec, opened: Callable[[StudySpec], Study]
) -> None:
    longest = spec.model_copy(update={"name": "n" * 237})
    StudyFile(longest, "study.yaml", ()).check_new()
    bench.run(longest, ScriptedPool(curve=curve({}, {})))
    assert len(confirmation_of(opened(longest), {}).spec.name) == 250


def test_a_longer_name_is_refused_in_a_new_study_and_goes_on_in_one_that_exists(
    bench: Bench, spec: StudySpec, opened: Callable[[StudySpec], Study]
) -> None:
    longer = spec.model_copy(update={"name": "é" * 119})
    file = StudyFile(longer, "study.yaml", ())
    for start in (submit_study, run_study):
        with pytest.raises(SpecError, match=r"name: must have at most 237 bytes .* got 238"):
            start(file, bench.home)
    bench.run(longer, ScriptedPool(curve=curve({}, {})))
    assert not submit_study(file, bench.home), "it resumes"
    with pytest.raises(SpecError, match="must have 1 to 250 bytes, got 251"):
        confirmation_of(opened(longer), {})


def test_a_confirmation_is_not_confirmed_itself_and_needs_a_completed_trial(
    bench: Bench, spec: StudySpec, opened: Callable[[StudySpec], Study]
) -> None:
    bench.record(spec)
    with pytest.raises(RefusedError, match="no trial of small has completed"):
        confirmation_of(opened(spec), {})
    bench.run(spec, ScriptedPool(curve=curve({}, {})))
    race = confirmation_of(opened(spec), {}).spec
    bench.record(race)
    with pytest.raises(RefusedError, match="trains points of small again, and is not confirmed"):
        confirmation_of(opened(race), {})


def test_a_rule_that_is_wrong_is_named(
    bench: Bench, spec: StudySpec, opened: Callable[[StudySpec], Study]
) -> None:
    bench.run(spec, ScriptedPool(curve=curve({}, {})))
    study = opened(spec)
    with pytest.raises(SpecError, match="max_seeds: must be >= 5, got 2"):
        confirmation_of(study, {"max_seeds": 2})
    with pytest.raises(SpecError, match="unknown key 'seeds'"):
        confirmation_of(study, {"seeds": 2})
    assert Catalog(bench.database).names() == [spec.name], "nothing was created"


def test_equal_points_and_those_that_differ_in_patience_race_once(
    bench: Bench, opened: Callable[[StudySpec], Study]
) -> None:
    patience = {"type": "choice", "choices": [1, 2, 3]}
    spec = small_study(
        search_space={**SPACE, "patience": patience},
        baseline=[{"learning_rate": rate, "patience": 2} for rate in (1, 2, 2, 1, 3)]
        + [{"learning_rate": 2, "patience": 1}],
        sampler="random",
        trials=6,
        epochs=5,
        validation=10_000,
    )
    bench.run(spec, ScriptedPool(curve=curve({2: 0.01}, {})))
    study = opened(spec)
    race = confirmation_of(study, {}).spec
    assert [point["learning_rate"] for point in race.baseline] == [2, 3, 1]
    assert race.race is not None
    assert race.race.against == 2
    assert all("patience" not in point for point in race.baseline)
    bench.run(race, ScriptedPool(curve=curve({2: 0.01}, {})))
    found = find_report(study)
    assert found is not None
    assert found.of(found.chosen).params == {"learning_rate": 2}
    assert found.baseline == 0


@pytest.mark.slow
def test_a_race_that_has_begun_goes_on_with_its_points_and_may_get_more_seeds(
    bench: Bench, spec: StudySpec, opened: Callable[[StudySpec], Study]
) -> None:
    study = confirmed(bench, spec, opened, curve({4: 0.0013}, {}), max_seeds=5, finalists=1)
    first = find_report(study)
    assert first is not None
    assert (first.over, first.seeds) == (True, 5)
    file = confirmation_of(study, {"max_seeds": 7})
    summary = bench.run(file.spec, ScriptedPool(curve=curve({4: 0.0013}, {})))
    assert summary.done
    later = find_report(study)
    assert later is not None
    assert [each.point for each in later.points] == [each.point for each in first.points]
    assert later.seeds > first.seeds
    with pytest.raises(SpecError, match="race: the study was started with"):
        bench.run(confirmation_of(study, {"level": 0.5}).spec, ScriptedPool())


def test_a_confirmation_has_the_data_and_the_code_of_its_study(
    bench: Bench, spec: StudySpec, opened: Callable[[StudySpec], Study]
) -> None:
    bench.run(spec, ScriptedPool(curve=curve({}, {})))
    study = opened(spec)
    race = confirmation_of(study, {}).spec
    assert bench.record(race).dataset == study.record.dataset
    versions = [CodeVersions(bench.database, name).all() for name in (spec.name, race.name)]
    assert versions[0][-1].digest == versions[1][-1].digest


@pytest.mark.slow
def test_the_chosen_point_is_represented_by_its_median_training(
    bench: Bench, spec: StudySpec, opened: Callable[[StudySpec], Study]
) -> None:
    study = confirmed(bench, spec, opened, curve({4: 0.02}, {2: 0.05}), finalists=3)
    chosen = chosen_training(study)
    assert chosen is not None
    race, number = chosen
    values = sorted(
        row.value for row in race.trials.all() if row.params["learning_rate"] == 4 and row.value
    )
    row = next(row for row in race.trials.all() if row.number == number)
    assert row.value == values[(len(values) - 1) // 2]
    slot = row.user_attrs["slot"]
    attempt = bench.ledger(race.spec).latest_of(slot)
    assert attempt is not None
    kept = bench.home.attempt(race.name, slot, attempt.number)
    assert (kept / MODEL).exists(), "its model is kept"


def test_what_a_promotion_of_the_confirmation_opens_counts_for_the_study(
    bench: Bench,
    spec: StudySpec,
    opened: Callable[[StudySpec], Study],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    study = confirmed(bench, spec, opened, curve({4: 0.02}, {}), finalists=1)
    chosen = chosen_training(study)
    assert chosen is not None
    for owner in (study, chosen[0]):
        owner.test_set_accesses.begin(0, "promote", "0" * 64, "1" * 64)
    monkeypatch.setenv("TUNER_HOME", str(bench.home.root))
    show(spec.name)
    assert "accesses to the test set: 2" in capsys.readouterr().out


@pytest.mark.slow_variants
@pytest.mark.parametrize("seeds", [1, 2])
def test_show_marks_the_points_that_cannot_be_told_from_the_best_and_the_baseline(
    bench: Bench,
    spec: StudySpec,
    opened: Callable[[StudySpec], Study],
    seeds: int,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("TUNER_HOME", str(bench.home.root))
    monkeypatch.setenv("COLUMNS", "200")
    spec = spec.model_copy(update={"seeds": seeds})
    gains = curve({4: 0.02, 2: -0.02}, {2: 0.06, 3: 0.02, 5: -0.2})
    bench.run(spec, ScriptedPool(curve=gains))
    show(spec.name)
    text = capsys.readouterr().out
    assert "undecided until: tuner confirm small" in text
    assert "may equal" not in text
    best = opened(spec).summary().best
    assert best is not None
    assert f"\nbest: point {best.point}, " in text
    file = confirmation_of(opened(spec), {"finalists": 3})
    bench.run(file.spec, ScriptedPool(size=2, curve=gains))
    found = find_report(opened(spec))
    assert found is not None
    marks = {
        int(each.params["learning_rate"]): found.not_told_from(each.point) for each in found.points
    }
    assert marks == {4: (), 1: (), 3: ("baseline",), 2: ("baseline",)}
    assert found.not_told_from(99) is None
    show(spec.name)
    text = capsys.readouterr().out
    lines = re.findall(r"^ +(\d+) .* (neither|best|baseline|both) *$", text, re.MULTILINE)
    told = {int(point): "" if mark == "neither" else mark for point, mark in lines}
    assert told == {
        each.point: "".join(found.not_told_from(each.point) or ()) for each in found.points
    }
    assert (
        "may equal: whether a point is as good as the best, the baseline, both or neither" in text
    )
    assert "?" not in text
    assert "undecided until" not in text
    assert f"\nbest of the search: point {best.point}, " in text
    assert f"point {found.chosen} is better than the baseline: val_accuracy +0.0" in text
    takes = rf"promotion takes point {found.chosen}, mean .* \(standard deviation 0.00\d\d, n = \d"
    assert re.search(takes, text)


def test_there_is_no_choice_before_the_race_is_over(
    bench: Bench, spec: StudySpec, opened: Callable[[StudySpec], Study]
) -> None:
    bench.run(spec, ScriptedPool(curve=curve({}, {})))
    study = opened(spec)
    assert chosen_training(study) is None
    race = confirmation_of(study, {}).spec
    assert chosen_training(study) is None
    found = find_report(study)
    assert found is not None
    assert not found.over
    assert [each.mean for each in found.points] == [None] * race.trials
    assert "nan" not in "".join(found.lines())
    assert "NaN" not in found.model_dump_json()


def test_a_race_that_goes_on_has_as_many_trainers_as_its_study_again(
    bench: Bench, spec: StudySpec, opened: Callable[[StudySpec], Study]
) -> None:
    bench.run(spec, ScriptedPool(curve=curve({}, {})))
    begun = confirmation_of(opened(spec), {})
    bench.record(begun.with_workers(3).spec)
    assert confirmation_of(opened(spec), {}).spec.workers == spec.workers != 3


def test_a_confirmation_outlives_its_study_and_waits_for_one_that_has_a_result(
    bench: Bench, spec: StudySpec, opened: Callable[[StudySpec], Study]
) -> None:
    bench.run(spec, ScriptedPool(curve=curve({}, {})))
    race = confirmation_of(opened(spec), {"max_seeds": 5}).spec
    Catalog(bench.database).delete(spec.name)
    bench.run(spec, ScriptedPool(fails=lambda _plan: True))
    with pytest.raises(RefusedError, match="no trial of small has completed"):
        find_report(opened(spec))
    bench.run(race, ScriptedPool(size=2, curve=curve({}, {})))  # its end tells no verdict


def test_another_study_of_that_name_is_no_confirmation(
    bench: Bench, spec: StudySpec, opened: Callable[[StudySpec], Study]
) -> None:
    bench.run(spec, ScriptedPool(curve=curve({}, {})))
    bench.record(spec.model_copy(update={"name": "small-confirmation"}))
    study = opened(spec)
    assert find_report(study) is None
    with pytest.raises(RefusedError, match="there is another study 'small-confirmation'"):
        confirmation_of(study, {})


@pytest.mark.slow
def test_a_confirmation_of_an_earlier_study_is_not_taken_for_this_ones(
    bench: Bench, spec: StudySpec, opened: Callable[[StudySpec], Study]
) -> None:
    study = confirmed(bench, spec, opened, curve({}, {}))
    Catalog(bench.database).delete(spec.name)
    other = spec.model_copy(
        update={"search_space": {**spec.search_space, "dropout_rate": 0.3}, "trials": 2}
    )
    bench.run(other, ScriptedPool(curve=curve({}, {})))
    with pytest.raises(RefusedError, match="tuner delete small-confirmation"):
        find_report(opened(other))
    assert study.name == other.name
