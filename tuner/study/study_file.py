"""A study file ready to run: the study, the file's path and the folders of the user's modules."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

from tuner.errors import SpecError, check_text, unknown
from tuner.models import known_models
from tuner.search import optuna_samplers
from tuner.spec.names import new_name_problem
from tuner.spec.recipe import Recipe
from tuner.spec.search_space import Scalar
from tuner.spec.study_spec import AutoOrCount, StudySpec
from tuner.storage.studies import StudyRecord
from tuner.study.code_folders import folders_here


@dataclass(frozen=True)
class StudyFile:
    """A validated study and the file that it comes from."""

    spec: StudySpec
    source: str
    """The file's path, for messages."""
    folders: tuple[Path, ...]
    """The folders that the user's modules are searched in; the file's own comes first."""
    overrides: tuple[str, ...] = ()
    """The overrides of the file (`--set`), such as `epochs=3`."""

    @classmethod
    def stored(cls, spec: StudySpec, record: StudyRecord) -> "StudyFile":
        """A study whose file, folders and overrides are those that the database has."""
        return cls(spec, record.source, folders_here(record.code_path), record.overrides)

    @property
    def code_path(self) -> tuple[Path, ...]:
        """The absolute folders that the user's modules are imported from, then the current one."""
        return tuple(dict.fromkeys((*(folder.absolute() for folder in self.folders), Path.cwd())))

    def with_workers(self, workers: AutoOrCount | None) -> Self:
        """Returns this file with another number of trainers; None keeps its own."""
        if workers is None:
            return self
        return replace(self, spec=self.spec.model_copy(update={"workers": workers}))

    def check(self) -> None:
        """Checks everything that can be checked before a process starts.

        Raises:
            SpecError: the sampler or a parameter is invalid.
            ModelError: there is no such model.
            UsageError: a folder's path is not valid text.
        """
        for folder in self.code_path:
            check_text(folder, "rename the folder, or run the study from another one")
        optuna_samplers.sampler(self.spec, seed=0)
        known_models.check_name(self.spec.model)
        if self.spec.model in known_models.BUILTIN:
            check_parameters(self.spec, self.source, known_models.hyperparameters(self.spec.model))

    def check_new(self) -> None:
        """Checks what a study must fulfil that does not exist yet.

        Raises:
            SpecError: its name leaves no room for that of its confirmation.
        """
        if problem := new_name_problem(self.spec.name):
            raise SpecError(self.source, [f"name: {problem}"])


def check_parameters(
    spec: StudySpec, source: str, hyperparameters: Mapping[str, Scalar | None]
) -> None:
    """Checks the search space's names against the parameters of the model and of the recipe.

    Args:
        spec: the study.
        source: the study file's path, for messages.
        hyperparameters: the model's parameters with their defaults; None means no default.

    Raises:
        SpecError: a name is unknown, or a parameter without a default is missing.
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
