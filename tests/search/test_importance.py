import pytest

from tests.bench import Bench, Curve, ScriptedPool, small_study


def test_importance_needs_ten_points_and_covers_the_parameters_that_varied(bench: Bench) -> None:
    space = {
        "learning_rate": {"type": "float", "low": 1e-4, "high": 1e-2, "log": True},
        "batch_size": {"type": "int", "low": 16, "high": 64},
        "optimizer": {"type": "choice", "choices": ["adam"]},
    }
    few, enough = (
        small_study(search_space=space, baseline=[], sampler="random", trials=trials)
        for trials in (9, 12)
    )
    bench.run(few, ScriptedPool())
    trials = bench.trials(few)
    assert trials.importance() == trials.store_importance() == {}
    assert trials.why_no_importance() == "it needs 10 points with all their seeds, and has 9"

    bench.run(enough, ScriptedPool())
    trials = bench.trials(enough)
    importance = trials.importance()
    assert trials.store_importance() == importance == trials.importance()
    assert list(importance) == ["learning_rate", "batch_size"]
    assert sum(importance.values()) == pytest.approx(1)


@pytest.mark.parametrize(
    ("curve", "baseline", "reason"),
    [
        (lambda _plan, _epoch: 0.5, {}, "the best points are no better than the others"),
        (
            lambda plan, _epoch: plan.slot / 20,
            {"learning_rate": 0.001, "batch_size": 32},
            "no parameter had two values",
        ),
    ],
)
def test_importance_says_why_there_is_none(
    bench: Bench, curve: Curve, baseline: dict[str, float], reason: str
) -> None:
    spec = small_study(trials=10, baseline=[baseline] * 10)
    bench.run(spec, ScriptedPool(curve=curve))
    assert bench.trials(spec).why_no_importance() == reason
    assert bench.trials(spec).store_importance() == {}
