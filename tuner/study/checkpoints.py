"""Which checkpoint a trial's next attempt goes on from, and when checkpoints go.

They lie in the folders of the attempts that wrote them and are removed when their trial ends.
An attempt on a machine that has not got them begins at the first epoch.
"""

from collections.abc import Iterator
from pathlib import Path

from tuner.home import Home
from tuner.training.plan import CHECKPOINT


def latest_checkpoint(home: Home, study: str, slot: int, before: int) -> Path | None:
    """The newest one of the attempts at the slot that came before attempt `before`."""
    return next(_checkpoints(home, study, slot, before), None)


def remove_checkpoints(home: Home, study: str, slot: int, until: int) -> None:
    """Removes those of all attempts at the slot up to attempt `until`."""
    for number in range(until + 1):
        folder = home.attempt(study, slot, number)
        for name in (CHECKPOINT, f"partial-{CHECKPOINT}"):  # of a trainer killed while it wrote
            (folder / name).unlink(missing_ok=True)


def keep_checkpoints_of(home: Home, study: str, code: str, *, only: bool) -> None:
    """Removes those that were written by other code: half a trial would be of either.

    Args:
        home: whose driver lock the caller holds.
        study: its name.
        code: the digest of the code that holds now.
        only: whether the study has had no other.
    """
    mark = home.devoted(study) / "code"
    before = mark.read_text() if mark.exists() else code if only else ""
    if before != code:
        for path in home.attempts(study).glob(f"*/*{CHECKPOINT}"):
            path.unlink(missing_ok=True)
    if not mark.exists() or before != code:
        mark.write_text(code)


def _checkpoints(home: Home, study: str, slot: int, before: int) -> Iterator[Path]:
    """From the newest to the oldest."""
    for number in reversed(range(before)):
        path = home.attempt(study, slot, number) / CHECKPOINT
        if path.exists():
            yield path
