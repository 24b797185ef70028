"""A study file that may be run: what it says, and where it and the user's modules lie."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tuner.errors import SpecError, check_text, unknown
from tuner.models import known_models
from tuner.search import optuna_samplers
from tuner.spec.recipe import Recipe
from tuner.spec.search_space import Scalar
from tuner.spec.study_spec import StudySpec


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


@dataclass(frozen=True)
class StudyFile:
    """A validated study and where it came from."""

    spec: StudySpec
    source: str
    """The file's name, for messages."""
    folders: tuple[Path, ...]
    """Where the user's own modules are looked for first; the file's own comes first."""
    overrides: tuple[str, ...] = ()
    """What was changed of the file, such as `epochs=3`."""

    @property
    def code_path(self) -> tuple[Path, ...]:
        """The folders that modules named in the study are imported from."""
        return tuple(dict.fromkeys((*(folder.absolute() for folder in self.folders), Path.cwd())))

    def check(self) -> None:
        """Refuses what can be refused before any process starts.

        Raises:
            SpecError: the file cannot be run.
            ModelError: there is no such model.
            UsageError: a folder's path is no text.
        """
        for folder in self.code_path:
            check_text(folder, "rename the folder, or run the study from another one")
        optuna_samplers.sampler(self.spec, seed=0)
        known_models.check_name(self.spec.model)
        if self.spec.model in known_models.BUILTIN:
            check_parameters(self.spec, self.source, known_models.hyperparameters(self.spec.model))
