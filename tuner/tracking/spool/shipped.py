"""Progress: how far a spool has been shipped, in `shipped.json` beside it.

It only saves work. Without it the spool is shipped again from its first event, which finds the run
by its uid and adds nothing.
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
    """How much of one spool MLflow has."""

    destination: str
    """The experiment and store. Progress for another one does not count."""
    spool: str = ""
    """The digest of the spool's first line. Progress in another spool does not count."""
    uid: str = ""
    run_id: str | None = None
    offset: int = 0
    """The number of bytes of the spool that are shipped."""
    ended: bool = False
    """Whether those bytes contain the attempt's end, after which little follows."""
    undrawn: bool = False
    """Whether tables and figures do not show those bytes yet."""
    refused: tuple[str, ...] = ()
    """What the run lacks, with reasons: parts that MLflow refused, and unreadable lines."""

    @property
    def turned_down(self) -> tuple[str, ...]:
        """Parts of events that MLflow refused, each with its reason."""
        return tuple(note for note in self.refused if NO_EVENT not in note)

    def from_the_beginning(self) -> "Progress":
        """Progress of the same run with nothing shipped."""
        return Progress(destination=self.destination, uid=self.uid)


def load_progress(folder: Path) -> Progress | None:
    """Returns the progress of the spool in `folder`; None if there is none that can be read.

    If the spool was replaced by another one, only the uid is kept.
    """
    try:
        text = (folder / FILE_NAME).read_bytes()
        progress = Progress.model_validate_json(text, extra="ignore")
    except (FileNotFoundError, ValidationError):
        return None
    return progress if is_of(progress, folder) else progress.from_the_beginning()


def is_of(progress: Progress, folder: Path) -> bool:
    """Whether the progress belongs to the spool that is in `folder` now."""
    try:
        size = (folder / SPOOL).stat().st_size
    except FileNotFoundError:
        return True  # nothing contradicts it
    if progress.offset > size:
        return False
    return progress.spool in ("", first_line_digest(folder))


def save_progress(folder: Path, progress: Progress) -> None:
    """Replaces the progress of the spool in `folder` in one step for readers."""
    with replaced(folder / FILE_NAME) as partial:
        partial.write_text(progress.model_dump_json())


@dataclass(frozen=True)
class Survey:
    """What a study's spools say, without a query to MLflow."""

    runs: dict[str, str]
    """The MLflow run ids, by uid."""
    pending: int
    """The number of events that MLflow lacks; figures to be drawn count as one."""
    turned_down: tuple[str, ...] = ()
    """Parts that MLflow refused, each with its reason."""
    unreadable: int = 0
    """The number of lines that a disk damaged or a newer version wrote."""


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
    """Makes the spool in `folder` be shipped again from its first event, which adds what lacks.

    Keeps the run's uid, which a damaged spool may have lost.
    """
    known = load_progress(folder)
    if known is None:
        (folder / FILE_NAME).unlink(missing_ok=True)
    else:
        save_progress(folder, known.from_the_beginning())
