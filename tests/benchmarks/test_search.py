from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from optuna.trial import TrialState

from benchmarks.record_table import check_finished
from benchmarks.replays.clock import ReplayedStudy, ReplayedTrial, replay
from benchmarks.replays.contenders import FORMER, PRUNERS, REFERENCE, SAMPLERS, Contender
from benchmarks.replays.curves import METRICS, Row, Table, read_table, write_table
from benchmarks.replays.scores import Race, Score, target_of
from benchmarks.search import preferred
from tuner.datasets.store import DatasetInfo
from tuner.errors import RefusedError
from tuner.home import Home
from tuner.search.trials import Trials
from tuner.spec.study_spec import StudySpec
from tuner.storage.attempts import ClaimedSlot
from tuner.storage.database import Database
from tuner.storage.drivers import DriverLease
from tuner.storage.opening import open_database
from tuner.storage.studies import Catalog
from tuner.study.summary import StudySummary
from tuner.training import plan as training
from tuner.training.plan import EpochReport, Timings, TrialResult

Studies = Callable[..., StudySpec]

PAIRS = [FORMER, Contender("random", "halving by 2 from 1"), Contender("qmc", "none")]


def _draw(table: Table, rate: float, dropout: float, batch: int = 64) -> np.ndarray:
    point = {"learning_rate": rate, "dropout_rate": dropout, "batch_size": batch}
    return table.draw(point, np.random.default_rng(0)).expected


def test_a_grid_points_curve_is_the_mean_of_its_replicates(
    table: Table, recorded: list[Row]
) -> None:
    mine = [row for row in recorded if (row.learning_rate, row.dropout_rate) == (1e-3, 0.45)]
    for batch in table.batches:
        values = [row.val_accuracy for row in mine if row.batch_size == batch]
        means = np.reshape(values, (table.replicates, table.epochs)).mean(axis=0)
        assert _draw(table, 1e-3, 0.45, batch)[:, 0] == pytest.approx(means)


@given(rate=st.floats(1e-4, 1e-2), dropout=st.floats(0.2, 0.7))
def test_a_curve_lies_between_the_grid_points_around_it(
    table: Table, rate: float, dropout: float
) -> None:
    i = min(int(np.searchsorted(table.rates, rate, side="right")), len(table.rates) - 1)
    j = min(int(np.searchsorted(table.dropouts, dropout, side="right")), len(table.dropouts) - 1)
    corners = [
        _draw(table, at, by) for at in table.rates[i - 1 : i + 1]
        for by in table.dropouts[j - 1 : j + 1]
    ]  # fmt: skip
    drawn = _draw(table, rate, dropout)
    assert (np.min(corners, axis=0) - 1e-12 <= drawn).all()
    assert (drawn <= np.max(corners, axis=0) + 1e-12).all()


def test_half_way_on_the_log_scale_is_the_mean_of_two(table: Table) -> None:
    middle = _draw(table, float(np.sqrt(1e-4 * 1e-3)), 0.2)
    assert middle == pytest.approx((_draw(table, 1e-4, 0.2) + _draw(table, 1e-3, 0.2)) / 2)


def test_what_a_study_sees_has_the_noise_of_one_training(table: Table) -> None:
    rng = np.random.default_rng(0)
    point = {"learning_rate": 4e-4, "dropout_rate": 0.3, "batch_size": 64}
    drawn = [table.draw(point, rng) for _ in range(400)]
    deviations = [curves.seen[:, 0] - curves.expected[:, 0] for curves in drawn]
    assert np.std(deviations) == pytest.approx(0.001, rel=0.3)


@pytest.mark.parametrize(
    ("change", "message"),
    [({"batch_size": 32}, r"batch_size: .* 32"), ({"dropout_rate": 0.8}, r"dropout_rate: .* 0\.8")],
)
def test_a_point_outside_of_the_table_is_refused(
    table: Table, change: dict[str, float], message: str
) -> None:
    point = {"learning_rate": 1e-3, "dropout_rate": 0.2, "batch_size": 64} | change
    with pytest.raises(ValueError, match=message):
        table.draw(point, np.random.default_rng(0))


def test_a_table_comes_back_as_it_was_written(tmp_path: Path, recorded: list[Row]) -> None:
    write_table(tmp_path / "table.csv", recorded)
    again = read_table(tmp_path / "table.csv")
    assert _draw(again, 3e-4, 0.3).tolist() == _draw(Table(recorded), 3e-4, 0.3).tolist()


def test_a_table_with_a_hole_is_refused(recorded: list[Row]) -> None:
    with pytest.raises(ValueError, match="every point"):
        Table(recorded[1:])


@pytest.mark.parametrize("pair", PAIRS, ids=str)
def test_a_replay_repeats(table: Table, study: Studies, pair: Contender) -> None:
    first, again, other = (replay(study(pair, seed), table, workers=2) for seed in (0, 0, 1))
    assert first == again
    assert first != other


@pytest.mark.slow_variants
@pytest.mark.parametrize("pair", PAIRS, ids=str)
def test_a_replay_goes_as_the_study_would(
    table: Table, study: Studies, pair: Contender, database: Database, dataset: DatasetInfo
) -> None:
    spec = study(pair)
    Catalog(database).create(spec, "study.yaml", (), dataset)
    with DriverLease(database, spec.name, "home", lease_s=60):
        trials = Trials(database, spec)
        for expected in replay(spec, table, workers=1).trials:
            claim = ClaimedSlot(
                slot=expected.number, number=0, uid=f"{expected.number}", predecessor=None
            )
            opened = trials.open(claim)
            assert opened.params == expected.params
            rng = np.random.default_rng((spec.seed, expected.number))
            seen = table.draw(opened.params, rng).seen.tolist()
            reports: list[EpochReport] = []
            pruned = False
            while not pruned and len(reports) < spec.epochs:
                reports.append(_report(len(reports) + 1, seen[len(reports)]))
                pruned = trials.report(opened, reports[-1]) and len(reports) < spec.epochs
            assert len(reports) == expected.epochs
            trials.tell(opened, _result(reports, pruned))


def _report(epoch: int, values: list[float]) -> EpochReport:
    metrics = dict(zip(METRICS, values, strict=True))
    return EpochReport(epoch=epoch, metrics=metrics, train_s=1, validation_s=1, finished_ms=1)


def _result(reports: list[EpochReport], pruned: bool) -> TrialResult:
    values = [report.metrics["val_accuracy"] for report in reports]
    return TrialResult(
        state=training.Outcome.PRUNED if pruned else training.Outcome.COMPLETED,
        epochs=tuple(reports),
        best_epoch=1 + values.index(max(values)),
        evaluation=None,
        model=None,
        timings=Timings(build_s=0, train_s=0, validation_s=0, total_s=0),
        peak_memory_mb=0,
    )


def test_a_trial_pays_for_what_it_trained(table: Table, study: Studies) -> None:
    ended = replay(study(FORMER), table, workers=1).trials
    starts = [0.0, *(trial.ended_s for trial in ended)]
    assert {trial.state for trial in ended} == {TrialState.COMPLETE, TrialState.PRUNED}
    for trial, began in zip(ended, starts, strict=False):
        train_s = 256 / int(trial.params["batch_size"])
        pays = 0.25 + trial.epochs * (train_s + 0.5)
        assert trial.ended_s - began == pytest.approx(pays)


def test_two_trainers_share_the_trials_in_time_order(table: Table, study: Studies) -> None:
    alone, both = (replay(study(), table, workers=count) for count in (1, 2))
    assert sorted(trial.number for trial in both.trials) == list(range(30))
    assert all(before.ended_s <= after.ended_s for before, after in pairwise(both.trials))
    assert alone.seconds / 2 <= both.seconds < alone.seconds * 0.6


def test_every_sampler_and_pruner_names_a_valid_study(study: Studies) -> None:
    for sampler in SAMPLERS:
        assert study(Contender(sampler, "none")).sampler.type == SAMPLERS[sampler]["type"]
    for pruner in PRUNERS:
        assert study(Contender("random", pruner)).pruner.type == PRUNERS[pruner]["type"]


def test_a_quasi_random_start_covers_the_space_evenly(study: Studies) -> None:
    points = study(Contender("tpe, quasi-random start 10", "none")).baseline
    rates = [float(point["learning_rate"]) for point in points[1:]]
    halves = [rate < 1e-3 for rate in rates]
    assert len(points) == 10
    assert 4 <= sum(halves) <= 5


def _study(*ends: tuple[float, float]) -> ReplayedStudy:
    """Completed trials from pairs of seconds and value, each truly worth 0.5."""
    return ReplayedStudy(
        tuple(
            ReplayedTrial(
                number=number,
                params={},
                state=TrialState.COMPLETE,
                epochs=1,
                value=value,
                expected=0.5,
                ended_s=seconds,
            )
            for number, (seconds, value) in enumerate(ends)
        )
    )


def test_a_missed_target_counts_its_seconds_and_no_success() -> None:
    race = Race([_study((10, 0.8), (30, 0.9)), _study((10, 0.7), (40, 0.8))], 0.85)
    assert race.reached.tolist() == [True, False]
    assert race.running_time.value == 30 + 40


def test_a_race_twice_as_quick_is_twice_as_fast() -> None:
    slow, quick = (Race([_study((s, 0.9))] * 5, 0.9) for s in (20, 10))
    assert quick.speed_up(slow).value == 2


def test_the_target_is_what_the_reference_ends_with() -> None:
    studies = [_study((1, 0.7), (2, last)) for last in (0.8, 0.85, 0.95)]
    assert target_of(studies) == target_of([*studies, _study((1, 0.99))]) == 0.85
    assert Score(studies, 0.85).race.reached.mean() == pytest.approx(2 / 3)


def test_among_equals_the_shortest_whole_study_is_chosen_then_the_usual_sampler() -> None:
    def score(to_target: float, whole: float) -> Score:
        return Score([_study((to_target, 0.9), (whole, 0.8))] * 5, 0.9)

    halving, slow = "halving by 3 from 2", "median, start 2, warm-up 5"
    scores = {
        REFERENCE: score(100, 200),
        Contender("random", halving): score(10, 90),
        Contender("tpe, start 3", halving): score(10, 50),
        Contender(FORMER.sampler, halving): score(10, 50.3),
        Contender(FORMER.sampler, slow): score(20, 25),
    }
    assert preferred(scores) == Contender(FORMER.sampler, halving)


def test_an_unfinished_study_is_no_table() -> None:
    counts = {"completed": 3, "pruned": 0, "failed": 0, "running": 0, "waiting": 1}
    summary = StudySummary(
        study="search-table",
        metric="val_accuracy",
        direction="maximize",
        slots=4,
        seeds=1,
        counts=counts,
        trials=(),
        points=(),
        best=None,
    )
    told = "search-table.*4 trials, got 3 completed, 1 waiting; go on with: tuner run-study"
    with pytest.raises(RefusedError, match=told):
        check_finished(summary)


@pytest.fixture
def database(home: Home) -> Iterator[Database]:
    with open_database(home) as opened:
        yield opened
