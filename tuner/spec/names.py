"""Names that a study file gives: of the study, a function, a parameter, a registered model."""

from keyword import iskeyword
from typing import Annotated

from pydantic import AfterValidator, ValidationInfo

from tuner.spec.section import Problem, broken, is_stored, shown

LONGEST_PARAMETER_NAME = 250
"""MLflow's MAX_ENTITY_KEY_LENGTH, in characters: it refuses a run's event with a longer one."""
LONGEST_FUNCTION_NAME = 500
"""MLflow's MAX_DATASET_NAME_SIZE."""
_LONGEST_NAME = 250
_UNADDRESSED = "?@'"
"""What MLflow 3.17 cannot find a registered model by: its `models:/` addresses end at a question
mark and take what follows `@` for an alias, and its pages put the name between single quotes."""


def _study_name(name: str) -> str:
    # It names folders, a row in the database, an MLflow run and by default a registered model.
    if not name.isprintable():
        raise broken(Problem((), f"must hold no control characters, got {shown(name)}"))
    if not 1 <= len(name.encode()) <= _LONGEST_NAME:
        length = len(name.encode())
        raise broken(Problem((), f"must have 1 to {_LONGEST_NAME} bytes, got {length}"))
    if any(mark in name for mark in "/\\:") or name.startswith(".") or name != name.strip():
        rule = "must hold no slash or colon and neither start with a dot nor touch a space"
        raise broken(Problem((), f"{rule}, got {shown(name)}"))
    return name


def _registry_name(name: str, info: ValidationInfo) -> str:
    if not name.strip() or not name.isprintable() or any(mark in name for mark in "/:"):
        rule = "must be non-empty text without '/', ':' and control characters"
        raise broken(Problem((), f"{rule}, got {shown(name)}"))
    if is_stored(info):
        return name
    if name == "." or name.startswith(".."):  # MLflow takes it for a path
        raise broken(Problem((), f"must neither be '.' nor start with '..', got {shown(name)}"))
    if len(name.encode()) > _LONGEST_NAME:
        length = len(name.encode())
        raise broken(Problem((), f"must have at most {_LONGEST_NAME} bytes, got {length}"))
    if problem := address_problem(name):
        raise broken(Problem((), problem))
    return name


def address_problem(model: str) -> str | None:
    """The rule that keeps MLflow from finding a registered model of this name, or None."""
    if not any(mark in model for mark in _UNADDRESSED):
        return None
    return f"must hold none of ? @ ', since MLflow cannot find it then, got {shown(model)}"


def _function_name(name: str, info: ValidationInfo) -> str:
    module, colon, function = name.partition(":")
    dotted = all(part.isidentifier() for part in module.split("."))
    if (
        not name.strip()
        or not name.isprintable()
        or (colon and not (dotted and function.isidentifier()))
    ):
        raise broken(Problem((), f"must be a name or package.module:function, got {shown(name)}"))
    if len(name) > LONGEST_FUNCTION_NAME and not is_stored(info):
        rule = f"must have at most {LONGEST_FUNCTION_NAME} characters"
        raise broken(Problem((), f"{rule}, got {len(name)}"))
    return name


def is_parameter_name(name: str) -> bool:
    """Whether a function can have a parameter of that name."""
    return name.isidentifier() and not iskeyword(name)


StudyName = Annotated[str, AfterValidator(_study_name)]
RegistryName = Annotated[str, AfterValidator(_registry_name)]
FunctionName = Annotated[str, AfterValidator(_function_name)]
