"""Which training is promoted: the confirmed point's refit, and what else may be asked for."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

from tests.bench import Bench, ScriptedPool, small_study
from tuner.datasets.store import DatasetInfo
from tuner.errors import RefusedError, UsageError
from tuner.promotion.selection import Selection, select
from tuner.promotion.terms import terms
from tuner.search.race import Verdict
from tuner.spec.study_spec import Confirmation, StudySpec
from tuner.storage.attempts import Ledger
from tuner.storage.studies import Catalog
from tuner.study.confirmation.race_study import confirmation_of
from tuner.study.confirmation.refit import find_refits
from tuner.study.study import Study
from tuner.study.study_file import StudyFile
from tuner.training.plan import EpochEnded, TrialPlan
from tuner.workers.pool import PoolEvent, Reported

LUCKY, GOOD = 2, 4
GAINS = {GOOD: 0.02}


@dataclass
class LuckyPool(ScriptedPool):
    """Point 4 is better by 0.02; in the study itself point 2 is lucky by 0.05."""

    refits_diverge: bool = False

    def __post_init__(self) -> None:
        self.curve = self._curve

    def _curve(self, plan: TrialPlan, _epoch: int) -> float:
        if not plan.validation and self.refits_diverge:
            return 0.3
        return self._value(plan.params, plan.seed, plan.counts)

    def _value(self, params: Mapping[str, Any], seed: int, counts: str) -> float:
        rate = int(params["learning_rate"])
        noise = float(np.random.default_rng((seed, rate)).normal(0, 0.001))
        luck = 0.05 if counts == "best" and rate == LUCKY else 0.0
        return 0.9 + GAINS.get(rate, 0.0) + luck + noise

    def next_event(self, timeout_s: float) -> PoolEvent | None:
        """With the metrics of every training with validation rows."""
        heard = super().next_event(timeout_s)
        if not isinstance(heard, Reported) or not isinstance(heard.event, EpochEnded):
            return heard
        report = heard.event.report
        value = report.metrics[heard.plan.objective.metric]
        metrics = {"accuracy": value, "val_accuracy": value, "val_loss": 1 - value}
        metrics |= report.metrics
        report = report.model_copy(update={"metrics": metrics})
        self._active[heard.plan.slot][-1] = report
        return Reported(heard.plan, EpochEnded(report=report))


@dataclass
class Workshop:
    """A study that has ended, and what is selected of it."""

    bench: Bench
    spec: StudySpec
    refits_diverge: bool = False

    def __post_init__(self) -> None:
        self.said: list[str] = []
        self.trained: list[StudySpec] = []
        self.train_study(self.spec)

    @property
    def study(self) -> Study:
        bench = self.bench
        return Study(bench.home, bench.database, Catalog(bench.database).get(self.spec.name))

    def train_study(self, spec: StudySpec) -> None:
        self.bench.run(spec, LuckyPool(size=2, refits_diverge=self.refits_diverge))
        ledger = Ledger(self.bench.database, spec.name)
        for attempt in ledger.attempts():
            ledger.name_run(attempt.uid, f"{spec.name}-{attempt.slot}")

    def train(self, file: StudyFile) -> None:
        self.trained.append(file.spec)
        self.train_study(file.spec)

    def select(self, **options: Any) -> Selection:
        return select(self.study, self.spec, self.train, say=self.said.append, **options)


@pytest.fixture
def dataset(digits: DatasetInfo) -> DatasetInfo:
    """Real data, which a promotion looks for."""
    return digits


@pytest.fixture
def workshop(bench: Bench) -> Callable[..., Workshop]:
    def make(**changes: Any) -> Workshop:
        space = {"learning_rate": {"type": "choice", "choices": [1, 2, 3, 4, 5]}, "batch_size": 32}
        spec = {
            "search_space": space,
            "baseline": [{"learning_rate": 1}],
            "sampler": "grid",
            "trials": 5,
            "epochs": 2,
            "validation": 10_000,
        }
        return Workshop(bench, small_study(**spec | changes))

    return make


def test_the_point_that_the_confirmation_chose_is_trained_again_on_all_rows(
    workshop: Callable[..., Workshop],
) -> None:
    shop = workshop()
    best = shop.study.summary().best
    assert best is not None
    assert best.params["learning_rate"] == LUCKY, "luck looks best"
    selected = shop.select()
    race, refit = shop.trained
    assert (race.name, refit.name) == ("small-confirmation", "small-refit")
    candidate = selected.candidate
    assert candidate.study == selected.owner.name == refit.name
    assert candidate.params["learning_rate"] == GOOD
    assert (refit.validation, refit.epochs, refit.trials) == (0, race.epochs, 1)
    assert candidate.validated is None
    twin = selected.twin
    assert twin is not None
    assert twin.validated is not None, "its file is held against these figures"
    assert (twin.study, twin.params) == (race.name, candidate.params)
    grounds = candidate.grounds
    assert grounds is not None
    assert grounds.refit
    assert (grounds.study, grounds.confirmation) == ("small", race.name)
    assert grounds.verdict is Verdict.BETTER
    assert grounds.mean == pytest.approx(0.92, abs=0.002)
    assert "is better than the baseline: val_accuracy +0.0" in "".join(grounds.lines)
    assert candidate.run_id == "small-refit-0"
    mean = f"(mean val_accuracy {grounds.mean:.4f}, standard deviation {grounds.std:.4f}, n = "
    assert f"trial 0 of small-refit is point {grounds.point} {mean}" in shop.said[-1]


def test_what_is_there_is_not_trained_again(workshop: Callable[..., Workshop]) -> None:
    shop = workshop()
    first = shop.select().candidate
    slots = len(shop.study.run_ids())
    again = shop.select().candidate
    assert again == first
    assert [spec.name for spec in shop.trained[2:]] == ["small-refit"], "an ended one is only read"
    assert len(shop.study.run_ids()) == slots
    assert [each.name for each in find_refits(shop.study)] == ["small-refit"]


def test_the_seed_of_a_refit_is_fixed_by_the_study_alone(workshop: Callable[..., Workshop]) -> None:
    shop = workshop()
    shop.select(unconfirmed=True)
    shop.select(point=1)
    luck, other = shop.trained
    assert (luck.name, other.name) == ("small-refit", "small-refit-2")
    assert luck.baseline != other.baseline
    assert luck.seed == other.seed != shop.spec.seed


def test_a_skipped_confirmation_is_said_and_recorded(workshop: Callable[..., Workshop]) -> None:
    shop = workshop()
    selected = shop.select(unconfirmed=True)
    assert selected.candidate.params["learning_rate"] == LUCKY
    assert [spec.name for spec in shop.trained] == ["small-refit"]
    grounds = selected.candidate.grounds
    assert grounds is not None
    assert (grounds.confirmation, grounds.verdict) == (None, None)
    assert grounds.lines == ("not confirmed (--unconfirmed)",)


@pytest.mark.slow_variants
@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"confirmation": "off"}, "confirmation: off"),
        ({"trials": 1, "sampler": "random", "seeds": 3}, "a single point"),
        ({"baseline": [{"learning_rate": 1}] * 2, "trials": 2, "sampler": "random"}, "a single"),
        ({"baseline": [], "confirmation": {"finalists": 1}}, "one finalist and no baseline"),
        ({"validation": 0, "objective": "accuracy"}, "no validation images"),
    ],
)
def test_what_is_off_or_cannot_be_confirmed_is_promoted_with_the_reason(
    changes: dict[str, Any], why: str, workshop: Callable[..., Workshop]
) -> None:
    shop = workshop(**changes)
    grounds = shop.select().candidate.grounds
    assert grounds is not None
    assert why in grounds.lines[0]
    assert grounds.refit is bool(shop.spec.validation)
    assert len(shop.trained) == bool(shop.spec.validation)


def test_without_a_refit_the_median_training_of_the_race_is_taken(
    workshop: Callable[..., Workshop],
) -> None:
    shop = workshop(promotion={"refit": False})
    selected = shop.select()
    assert [spec.name for spec in shop.trained] == ["small-confirmation"]
    race = selected.owner
    values = sorted(
        row.value for row in race.trials.all() if row.params["learning_rate"] == GOOD and row.value
    )
    assert selected.candidate.value == values[(len(values) - 1) // 2]
    assert selected.candidate.grounds is not None
    assert not selected.candidate.grounds.refit


def test_a_refit_that_did_not_learn_is_refused_before_the_test_set_is_opened(
    workshop: Callable[..., Workshop],
) -> None:
    shop = workshop()
    shop.refits_diverge = True
    why = r"small-refit did not learn: .* is 0\.3000, the trainings of its point .* had at .*0\.9"
    for _ in range(2):
        with pytest.raises(RefusedError, match=why):
            shop.select()
    assert shop.study.test_set_accesses.all() == []
    assert shop.select(trial=1).candidate.study == "small"


@pytest.mark.slow
def test_the_rules_of_the_terms_count_for_a_new_confirmation(
    workshop: Callable[..., Workshop],
) -> None:
    shop = workshop()
    rules = Confirmation(finalists=1, max_seeds=5)
    terms = shop.spec.model_copy(update={"confirmation": rules})
    select(shop.study, terms, shop.train, say=shop.said.append)
    race = shop.trained[0].race
    assert race is not None
    assert race.rules == rules


def test_a_point_that_other_code_trained_is_not_trained_again(
    workshop: Callable[..., Workshop],
) -> None:
    shop = workshop(confirmation="off")
    for code, trials in (("one", 0), ("another", 5)):
        shop.study.code_versions.update({"networks.py": code}, trials=trials, accepts=True)
    with pytest.raises(RefusedError, match="was trained with other code than small has now"):
        shop.select()
    assert shop.trained == []


def test_an_unfinished_study_with_one_completed_point_is_not_promoted(
    workshop: Callable[..., Workshop],
) -> None:
    shop = workshop(trials=1, sampler="random")
    Catalog(shop.bench.database).resume(
        shop.spec.model_copy(update={"trials": 5}), "study.yaml", (), ()
    )
    with pytest.raises(RefusedError, match="small has 4 trials to go"):
        shop.select()


def test_a_refit_that_failed_says_how_to_train_it_again(workshop: Callable[..., Workshop]) -> None:
    shop = workshop(confirmation="off")

    def fails(file: StudyFile) -> None:
        shop.bench.run(file.spec, LuckyPool(fails=lambda _plan: True))

    with pytest.raises(RefusedError, match=r"small-refit has failed.*tuner delete small-refit"):
        select(shop.study, shop.spec, fails, say=shop.said.append)
    with pytest.raises(RefusedError, match="small-refit-2 has not ended; the same command"):
        select(shop.study, shop.spec, lambda _file: None, point=1, say=shop.said.append)


@pytest.mark.slow
def test_a_refit_is_found_where_an_earlier_one_was_deleted(
    workshop: Callable[..., Workshop],
) -> None:
    shop = workshop(confirmation="off")
    shop.select()
    second = shop.select(point=1).candidate
    Catalog(shop.bench.database).delete("small-refit")
    assert [each.name for each in find_refits(shop.study)] == ["small-refit-2"]
    assert shop.select(point=1).candidate == second


def test_a_stated_trial_is_taken_as_it_was_trained(workshop: Callable[..., Workshop]) -> None:
    shop = workshop()
    selected = shop.select(trial=3)
    assert shop.trained == []
    assert (selected.candidate.study, selected.candidate.number) == ("small", 3)
    grounds = selected.candidate.grounds
    assert grounds is not None
    assert grounds.lines == ("not confirmed (the trial was stated)",)


def test_an_unfinished_study_is_not_confirmed(workshop: Callable[..., Workshop]) -> None:
    shop = workshop(trials=4)
    shop.bench.record(shop.spec.model_copy(update={"trials": 5}))
    Catalog(shop.bench.database).resume(
        shop.spec.model_copy(update={"trials": 5}), "study.yaml", (), ()
    )
    with pytest.raises(RefusedError, match=r"small has 1 trial to go.* --unconfirmed"):
        shop.select()
    assert shop.trained == []


@pytest.mark.slow
def test_a_confirmation_that_was_interrupted_promotes_nothing(
    workshop: Callable[..., Workshop],
) -> None:
    shop = workshop()
    with pytest.raises(RefusedError, match="the confirmation of small is not over; resume"):
        select(shop.study, shop.spec, lambda _file: None, say=shop.said.append)
    assert shop.select().candidate.study == "small-refit"


@pytest.mark.slow
def test_a_point_that_is_newer_than_the_confirmation_is_named(
    workshop: Callable[..., Workshop],
) -> None:
    shop = workshop(trials=2, confirmation={"finalists": 1})
    shop.select()
    shop.spec = shop.spec.model_copy(update={"trials": 5})
    Catalog(shop.bench.database).resume(shop.spec, "study.yaml", (), ())
    shop.train_study(shop.spec)
    best = shop.study.summary().best
    assert best is not None
    shop.select()
    newer = f"point {best.point} is best now and newer than small-confirmation"
    assert any(newer in line for line in shop.said) == (best.point > 1)


@pytest.mark.slow_variants
@pytest.mark.parametrize(
    ("options", "error", "why"),
    [
        ({"trial": 1, "point": 1}, UsageError, "--trial and --point exclude each other"),
        ({"point": 9}, UsageError, "no training of a point 9 has completed"),
        ({"trial": 9}, UsageError, "has no trial 9"),
    ],
)
def test_what_cannot_be_selected_is_refused(
    options: dict[str, int], error: type[Exception], why: str, workshop: Callable[..., Workshop]
) -> None:
    with pytest.raises(error, match=why):
        workshop().select(**options)


def test_a_race_and_a_refit_are_promoted_through_their_study(
    workshop: Callable[..., Workshop],
) -> None:
    shop = workshop()
    owner = shop.select().owner
    race = shop.study.sibling(confirmation_of(shop.study, {}).spec.name)
    assert race is not None
    for each in (owner, race):
        with pytest.raises(RefusedError, match="promote that: tuner promote best small"):
            terms(each.record, None, shop.said.append)
