"""Events that a full disk does not take."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.disks import fill, small_disk
from tuner.tracking.spool.backlog import Backlog
from tuner.tracking.spool.spool import read_events
from tuner.tracking.spool.spool_events import Event, ModelDisplaced, ModelKept


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    with small_disk(tmp_path / "disk", "256k") as folder:
        yield folder


def numbered(count: int) -> list[Event]:
    padding = "x" * 2000
    return [ModelKept(at_ms=each, path=Path(padding), sha256="0" * 64) for each in range(count)]


def test_what_a_full_disk_does_not_take_is_written_once_there_is_room(disk: Path) -> None:
    said: list[str] = []
    backlog, events = Backlog(said.append), numbered(30)
    one, other = disk / "one", disk / "other"
    for event in events[:10]:
        backlog.append(one, event)
    filler = fill(disk)
    for event in events[10:20]:
        backlog.append(one, event)
    backlog.append(other, ModelDisplaced(at_ms=1))
    backlog.release(one)
    assert len(said) == 1
    assert "No space left on device" in said[0]
    assert len(read_events(one)[0]) < 20

    filler.unlink()
    backlog.append(other, ModelDisplaced(at_ms=2))
    assert read_events(one)[0] == events[:20]
    assert [event.kind for event in read_events(other)[0]] == ["model-displaced"] * 2
    assert said[1:] == ["all waiting events are written"]
    backlog.close()
    assert len(said) == 2


def test_what_never_found_room_is_named(disk: Path) -> None:
    said: list[str] = []
    backlog = Backlog(said.append)
    fill(disk)
    for event in numbered(3):
        backlog.append(disk / "one", event)
    backlog.close()
    assert said[-1].startswith(f"{disk / 'one'}: 3 events could not be written")
