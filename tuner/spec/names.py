"""The rules for names in a study file: study, function, parameter, registered model."""

from keyword import iskeyword
from typing import Annotated

from pydantic import AfterValidator, ValidationInfo

from tuner.spec.section import Problem, broken, is_stored, shown

LONGEST_PARAMETER_NAME = 250
"""MLflow's MAX_ENTITY_KEY_LENGTH, in characters. MLflow rejects longer parameter names."""
LONGEST_FUNCTION_NAME = 500
"""MLflow's MAX_DATASET_NAME_SIZE."""
_LONGEST_NAME = 250
CONFIRMATION = "-confirmation"
"""What the name of a confirmation adds to that of its study; that of a refit adds less."""
_UNADDRESSED = "?@'"
"""Characters with which MLflow 3.17 cannot find a registered model: a `models:/` address ends at
`?` and takes the text after `@` as an alias, and the pages put the name in single quotes."""


def _study_name(name: str) -> str:
    # It names folders, a row in the database, an MLflow run and by default a registered model.
    if not name.isprintable():
        raise broken(Problem((), f"must not contain control characters, got {shown(name)}"))
    if not 1 <= len(name.encode()) <= _LONGEST_NAME:
        length = len(name.encode())
        raise broken(Problem((), f"must have 1 to {_LONGEST_NAME} bytes, got {length}"))
    if any(mark in name for mark in "/\\:") or name.startswith(".") or name != name.strip():
        rule = "must not contain a slash or colon, start with a dot, or start or end with a space"
        raise broken(Problem((), f"{rule}, got {shown(name)}"))
    return name


def new_name_problem(study: str) -> str | None:
    """Returns why a new study must not have this name; None if its confirmation can be named."""
    longest, length = _LONGEST_NAME - len(CONFIRMATION), len(study.encode())
    if length <= longest:
        return None
    rule = f"must have at most {longest} bytes in a new study, so that its confirmation has a name"
    return f"{rule}, got {length}"


def _registry_name(name: str, info: ValidationInfo) -> str:
    if not name.strip() or not name.isprintable() or any(mark in name for mark in "/:"):
        rule = "must be non-empty text without '/', ':' and control characters"
        raise broken(Problem((), f"{rule}, got {shown(name)}"))
    if is_stored(info):
        return name
    if name == "." or name.startswith(".."):  # MLflow reads it as a path
        raise broken(Problem((), f"must not be '.' or start with '..', got {shown(name)}"))
    if len(name.encode()) > _LONGEST_NAME:
        length = len(name.encode())
        raise broken(Problem((), f"must have at most {_LONGEST_NAME} bytes, got {length}"))
    if problem := address_problem(name):
        raise broken(Problem((), problem))
    return name


def address_problem(model: str) -> str | None:
    """Returns why MLflow cannot find a registered model with this name, or None if it can."""
    if not any(mark in model for mark in _UNADDRESSED):
        return None
    return f"must not contain ? @ or ', since MLflow cannot find it then, got {shown(model)}"


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
    """Whether a function can have a parameter with this name."""
    return name.isidentifier() and not iskeyword(name)


StudyName = Annotated[str, AfterValidator(_study_name)]
RegistryName = Annotated[str, AfterValidator(_registry_name)]
FunctionName = Annotated[str, AfterValidator(_function_name)]
