"""The limits that a study file is held to are those of the MLflow that is installed."""

from mlflow.utils import validation

from tuner.spec import names, rules


def test_the_limits_are_mlflows() -> None:
    assert rules.LONGEST_VALUE == validation.MAX_PARAM_VAL_LENGTH
    assert names.LONGEST_PARAMETER_NAME == validation.MAX_ENTITY_KEY_LENGTH
    assert names.LONGEST_FUNCTION_NAME == validation.MAX_DATASET_NAME_SIZE
