"""A study file that may be run: what it says, and where it and the user's modules lie."""

from dataclasses import dataclass
from pathlib import Path

from tuner.errors import check_text
from tuner.models import registry
from tuner.spec.study import StudySpec
from tuner.study import search
from tuner.study.parameters import check_parameters


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
        search.sampler(self.spec, seed=0)
        registry.check_name(self.spec.model)
        if self.spec.model in registry.BUILTIN:
            check_parameters(self.spec, self.source, registry.hyperparameters(self.spec.model))
