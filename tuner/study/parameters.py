"""Whether a study's parameters are ones that its model or the recipe takes."""

from collections.abc import Mapping

from tuner.errors import SpecError, unknown
from tuner.spec.recipe import Recipe
from tuner.spec.search_space import Scalar
from tuner.spec.study import StudySpec


def check_parameters(
    spec: StudySpec, source: str, hyperparameters: Mapping[str, Scalar | None]
) -> None:
    """Compares the search space with the model function's own parameters and the recipe's.

    Args:
        spec: the study.
        source: the study file, for messages.
        hyperparameters: the model's parameters and their defaults, None where it has none.

    Raises:
        SpecError: a name belongs to neither, or the model needs one that is not given.
    """
    known = {*hyperparameters, *Recipe.model_fields}
    problems = [
        f"search_space.{name}: {unknown('parameter', name, known)}"
        for name in spec.search_space
        if name not in known
    ]
    problems += [
        f"search_space: {spec.model} needs {name!r}, which has no default; add it"
        for name, default in hyperparameters.items()
        if default is None and name not in spec.search_space
    ]
    if problems:
        raise SpecError(source, problems)
