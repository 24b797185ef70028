import subprocess
import sys

from tuner.study.importance import Importance, PacedImportance

PROGRAM = """
import sys
import optuna
from tuner.study.importance import importance_of

optuna.logging.disable_default_handler()
study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
study.optimize(lambda t: t.suggest_float("a", 0, 1) + t.suggest_int("b", 0, 3) ** 2, n_trials=60)
ours = importance_of(study)
assert not {"sklearn", "pandas", "scipy"} & sys.modules.keys(), "it loaded what it does not need"
assert ours == dict(optuna.importance.get_param_importances(study))
fanova = optuna.importance.FanovaImportanceEvaluator(seed=0)
assert optuna.importance.get_param_importances(study, evaluator=fanova)
assert importance_of(study) == ours
"""


def test_it_is_optunas_and_leaves_optuna_whole() -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=False
    )

    assert done.returncode == 0, done.stderr


def test_what_was_answered_lately_is_not_asked_again() -> None:
    answers: list[Importance] = [{}, {"a": 1.0}, {"a": 0.5}]
    asked = list(answers)
    paced = PacedImportance(lambda: asked.pop(0))

    assert [paced.if_due() for _ in range(4)] == [{}, {"a": 1.0}, {}, {}]
    assert asked == [{"a": 0.5}]
