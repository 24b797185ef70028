"""How far a spool has been shipped: `shipped.json` beside it.

It only saves work. Without it a spool is shipped again from its beginning, which finds the
run by its uid and adds nothing.
"""

from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from tuner.files import replaced
from tuner.spec.section import Frozen
from tuner.tracking.spool.spool import FILE_NAME as SPOOL
from tuner.tracking.spool.spool import NO_EVENT, first_line_digest, read_lines, spool_folders

FILE_NAME = "shipped.json"


class Progress(Frozen):
    """What MLflow already has of one spool."""

    destination: str
    """Which experiment of which store; progress towards another one counts for nothing."""
    spool: str = ""
    """The digest of the spool's first line; progress in another spool counts for nothing."""
    uid: str = ""
    run_id: str | None = None
    offset: int = 0
    """Bytes of the spool that need no more shipping."""
    ended: bool = False
    """Whether those bytes tell of an attempt's end, after which little follows."""
    undrawn: bool = False
    """Whether tables and figures wait for what those bytes tell."""
    refused: tuple[str, ...] = ()
    """What the run lacks, each with its reason: what MLflow turned down, and what is no event."""

    @property
    def turned_down(self) -> tuple[str, ...]:
        """Parts of events that MLflow turned down, each with its reason."""
        return tuple(note for note in self.refused if NO_EVENT not in note)

    def from_the_beginning(self) -> "Progress":
        """As long as nothing is shipped, of the same run."""
        return Progress(destination=self.destination, uid=self.uid)


def load_progress(folder: Path) -> Progress | None:
    """Returns the progress of the spool in `folder`, None when nothing usable is there.

    Of a spool that was deleted, and whose place another has taken, only the uid counts.
    """
    try:
        text = (folder / FILE_NAME).read_bytes()
        progress = Progress.model_validate_json(text, extra="ignore")
    except (FileNotFoundError, ValidationError):
        return None
    return progress if is_of(progress, folder) else progress.from_the_beginning()


def is_of(progress: Progress, folder: Path) -> bool:
    """Whether the spool that lies in `folder` now is the one that the progress was made in."""
    try:
        size = (folder / SPOOL).stat().st_size
    except FileNotFoundError:
        return True  # nothing contradicts it
    if progress.offset > size:
        return False
    return progress.spool in ("", first_line_digest(folder))


def save_progress(folder: Path, progress: Progress) -> None:
    """Replaces the progress of the spool in `folder`; a reader sees the old or the new."""
    with replaced(folder / FILE_NAME) as partial:
        partial.write_text(progress.model_dump_json())


@dataclass(frozen=True)
class Survey:
    """What a study's spools say of themselves, without asking MLflow."""

    runs: dict[str, str]
    """The MLflow run of every uid that has one."""
    pending: int
    """Events that are not in MLflow yet; figures that are to be drawn count as one."""
    turned_down: tuple[str, ...] = ()
    """What MLflow turned down, each with its reason."""
    unreadable: int = 0
    """Lines that a disk damaged, or that a newer version wrote."""


def survey(study_folder: Path) -> Survey:
    """Reads the progress of every spool of a study."""
    runs, pending, unreadable = {}, 0, 0
    turned_down: list[str] = []
    for folder in spool_folders(study_folder):
        progress = load_progress(folder)
        if progress and progress.run_id:
            runs[progress.uid] = progress.run_id
        pending += sum(1 for _ in read_lines(folder, progress.offset if progress else 0))
        pending += bool(progress and progress.undrawn)
        if progress:
            turned_down += progress.turned_down
            unreadable += len(progress.refused) - len(progress.turned_down)
    return Survey(runs, pending, tuple(turned_down), unreadable)


def forget_progress(folder: Path) -> None:
    """Lets the spool in `folder` be shipped again from its beginning, which adds what lacks.

    Its run's uid stays, which a damaged spool may not tell any more.
    """
    known = load_progress(folder)
    if known is None:
        (folder / FILE_NAME).unlink(missing_ok=True)
    else:
        save_progress(folder, known.from_the_beginning())
