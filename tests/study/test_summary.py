"""What a summary tells of each trial: the code that trained it, and whether it can be promoted."""

import json

import pytest

from tests.bench import Bench, ScriptedPool, small_study
from tuner.cli.results.show import print_summary, show
from tuner.cli.results.studies import studies
from tuner.cli.running.run_study import _say_what_is_next
from tuner.code import digest
from tuner.study.study import load_study
from tuner.training.plan import ModelPlan
from tuner.workers.messages import Described
from tuner.workers.pool import Finished, PoolEvent


class Unpromotable(ScriptedPool):
    """A pool whose networks train, and cannot be promoted from the second trial on."""

    def next_event(self, timeout_s: float) -> PoolEvent | None:
        event = super().next_event(timeout_s)
        if isinstance(event, Finished) and event.plan.slot:
            why = {"unpromotable": "it has a Lambda layer", "remarks": ("compiled anew",)}
            result = event.result.model_copy(update=why)
            return Finished(event.plan, result)
        return event


@pytest.mark.parametrize("best_slot", [0, 1])
def test_trials_that_cannot_be_promoted_are_marked_and_not_suggested(
    best_slot: int, bench: Bench, capsys: pytest.CaptureFixture[str]
) -> None:
    pool = Unpromotable(curve=lambda plan, _: 0.9 if plan.slot == best_slot else 0.5)
    summary = bench.run(small_study(trials=3), pool)
    assert [trial.unpromotable for trial in summary.trials] == ["", *["it has a Lambda layer"] * 2]

    assert [trial.remarks for trial in summary.trials] == [(), *[("compiled anew",)] * 2]

    print_summary(summary)
    _say_what_is_next(summary)

    told = capsys.readouterr()
    assert "* cannot be promoted: it has a Lambda layer (trials 1, 2)" in told.out
    assert told.out.count("completed *") == 2
    assert ("promote best" in told.err) is (best_slot == 0)
    assert ("the best point, 1, cannot be promoted: it has" in told.err) is (best_slot == 1)


class Coded(ScriptedPool):
    """A pool whose networks come from the user's code."""

    text: str = ""

    def describe(self, model: ModelPlan, dataset: str) -> Described:
        described = super().describe(model, dataset)
        return described.model_copy(update={"code": {"networks.py": self.text}})


def test_each_trial_names_the_code_that_trained_it_after_a_restart_too(
    bench: Bench, capsys: pytest.CaptureFixture[str]
) -> None:
    before, after = Coded(), Coded()
    before.text, after.text = "units = 1", "units = 2"
    bench.run(small_study(trials=4), before, stopped=lambda: len(before.submitted) > 1)
    print_summary(load_study("small", bench.home).summary())
    assert "code" not in capsys.readouterr().out

    summary = bench.run(small_study(trials=4), after)

    old, new = (digest({"networks.py": pool.text}) for pool in (before, after))
    assert len(before.submitted) == 2, "the second trial was handed back"
    assert [trial.code for trial in summary.trials] == [old, new, new, new]
    print_summary(summary)
    told = capsys.readouterr().out
    assert (told.count(old[:12]), told.count(new[:12])) == (1, 3)


@pytest.mark.parametrize("seeds", [1, 3])
def test_the_best_is_a_point_with_its_mean_its_spread_and_n_wherever_it_is_shown(
    seeds: int,
    bench: Bench,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("TUNER_HOME", str(bench.home.root))
    values = [0.90, 0.99, 0.80, 0.93, 0.94, 0.92]
    spec = small_study(trials=6 // seeds, seeds=seeds)
    summary = bench.run(spec, ScriptedPool(curve=lambda plan, _: values[plan.slot]))
    assert summary.best is not None

    show("small")
    shown = capsys.readouterr().out
    show("small", as_json=True)
    told = json.loads(capsys.readouterr().out)
    studies()
    listed = capsys.readouterr().out

    best = summary.best.model_dump(mode="json")
    assert told["best"] == told["points"][0] == best
    assert told["best_single"]["number"] == 1
    if seeds == 1:
        assert "\nbest: point 1, val_accuracy 0.9900 (trial 1, n = 1), " in shown
        assert "0.9900 (point 1, n = 1)" in listed
        assert (best["mean"], best["std"], best["completed"]) == (0.99, None, 1)
    else:
        mean = "mean val_accuracy 0.9300 (standard deviation 0.0100, n = 3)"
        assert f"\nbest: point 1, {mean}, " in shown
        assert "\nbest single training: trial 1 of point 0, val_accuracy 0.9900" in shown
        assert "0.9300 ± 0.0100 (point 1, n = 3)" in listed
