"""A home folder: its id, its studies' folders, and the layouts of earlier versions."""

import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from functools import partialmethod
from itertools import count
from pathlib import Path

import pytest

from tuner.errors import UnavailableError
from tuner.home import Home


def test_a_home_that_cannot_be_created_is_named(tmp_path: Path) -> None:
    blocked = Home(tmp_path / "file" / "home")
    blocked.root.parent.write_text("a file where a folder should be")

    with pytest.raises(UnavailableError, match="set TUNER_HOME"):
        blocked.create()


def test_only_its_owner_can_read_a_new_home(tmp_path: Path) -> None:
    made = Home(tmp_path / "new" / "home")
    made.create()
    assert made.root.stat().st_mode & 0o777 == 0o700
    made.root.chmod(0o750)
    made.create()
    assert made.root.stat().st_mode & 0o777 == 0o750


def test_studies_of_one_name_have_separate_folders_in_a_home(home: Home) -> None:
    for _ in range(2):
        for uid in ("one", "other"):
            home.set_current("mine", uid)
            home.set_current("mine", uid)
            assert home.current_uid("mine") == uid
            home.parent("mine").mkdir(exist_ok=True)
            left = home.parent("mine") / "spool.jsonl"
            assert not left.exists() or left.read_text() == uid
            left.write_text(uid)
    assert [former.name for former in home.former_studies("mine")] == ["one"]


FORMER_LAYOUT = {
    "uid": "one",
    "parent/spool.jsonl": "one",
    "attempts/0-0/spool.jsonl": "one",
    "former-other/parent/spool.jsonl": "other",
    "former-other/attempts/0-0/spool.jsonl": "other",
    "former-third/attempts/0-0/spool.jsonl": "third",
}
MOVES = [
    [],
    [("parent", "former-one/parent")],
    [("parent", "former-one/parent"), ("attempts", "former-one/attempts")],
    [
        ("parent", "former-one/parent"),
        ("attempts", "former-one/attempts"),
        ("former-other/parent", "parent"),
    ],
]
"""How far an earlier version got that was killed while it fetched the other study's spools."""


@contextmanager
def killed_at(fatal: int, *steps: str) -> Iterator[None]:
    """Ends the block at its step number `fatal` of those of a path that are named."""
    taken = count()

    def dies(path: Path, step: Callable[..., object], *given: object, **named: object) -> object:
        if next(taken) == fatal:
            raise KeyboardInterrupt
        return step(path, *given, **named)

    with pytest.MonkeyPatch.context() as patch, suppress(KeyboardInterrupt):
        for name in steps:
            patch.setattr(Path, name, partialmethod(dies, getattr(Path, name)))
        yield


@pytest.mark.parametrize("moves", MOVES)
@pytest.mark.parametrize("fatal", range(12))
def test_an_earlier_layout_is_converted_wherever_either_version_was_killed(
    moves: list[tuple[str, str]], fatal: int, home: Home
) -> None:
    """Each study has its spools, whichever comes first and after however many steps it dies."""
    folder = home.study("mine")
    for path, text in FORMER_LAYOUT.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(text)
    for source, target in moves:
        (folder / target).parent.mkdir(exist_ok=True)
        (folder / source).rename(folder / target)

    with killed_at(fatal, "mkdir", "rename", "replace", "write_text", "rmdir"):
        home.set_current("mine", "other")
    owner = home.current_uid("mine")  # is asked for before anyone devotes again
    assert (home.parent("mine") / "spool.jsonl").read_text() == owner
    assert (home.attempt("mine", 0, 0) / "spool.jsonl").read_text() == owner
    for uid in ("other", "one", "third", "other"):
        home.set_current("mine", uid)
        attempt = home.attempt("mine", 0, 0) / "spool.jsonl"
        assert attempt.read_text() == uid
        parent = home.parent("mine") / "spool.jsonl"
        assert uid == "third" or parent.read_text() == uid


@pytest.mark.parametrize("marked", [True, False])
@pytest.mark.parametrize("fatal", range(7))
def test_spools_of_an_earlier_layout_are_found_wherever_the_conversion_was_killed(
    fatal: int, marked: bool, home: Home
) -> None:
    """Else nobody ships it, and cleaning takes it for shipped."""
    folder = home.study("mine")
    for path in ("parent", "attempts/0-0"):
        (folder / path).mkdir(parents=True)
    if marked:
        (folder / "uid").write_text("one")
    with killed_at(fatal, "mkdir", "rename", "replace", "write_text"):
        home.set_current("mine", "one")
    assert (home.parent("mine").exists(), home.attempt("mine", 0, 0).exists()) == (True, True)
    home.set_current("mine", "one")
    assert home.attempt("mine", 0, 0) == folder / "one" / "attempts" / "0-0"
    assert (home.parent("mine").exists(), home.attempt("mine", 0, 0).exists()) == (True, True)


def test_two_processes_may_set_the_current_study_at_once(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = Path.write_text

    def overtaken(path: Path, text: str) -> int:
        written = write(path, text)
        with monkeypatch.context() as another:
            another.setattr(Path, "write_text", write)
            another.setattr("os.getpid", lambda: -1)
            home.set_current("mine", "one")
        return written

    monkeypatch.setattr(Path, "write_text", overtaken)
    home.set_current("mine", "one")
    assert home.current_uid("mine") == "one"
    assert {each.name for each in home.study("mine").iterdir()} == {"one", "uid"}


def test_a_moved_home_keeps_its_id(home: Home) -> None:
    uid = home.uid
    moved = Home(home.root.rename(home.root.with_name("elsewhere")))
    assert moved.uid == uid
    assert {path.name for path in moved.root.iterdir()} == {"id"}


def test_a_copied_home_gets_another_id(home: Home, tmp_path: Path) -> None:
    uid = home.uid
    copy = Home(Path(shutil.copytree(home.root, tmp_path / "copy")))
    assert copy.uid != uid
    assert (copy.uid, home.uid) == (copy.uid, uid)
    again = Home(Path(shutil.copytree(copy.root, tmp_path / "again")))
    assert len({home.uid, copy.uid, again.uid}) == 3


@pytest.mark.parametrize("removed", [".", "uid"])
def test_a_driver_keeps_its_studys_folder_when_parts_of_it_are_removed(
    home: Home, removed: str
) -> None:
    home.set_current("small", "a1")
    path = home.study("small") / removed
    path.unlink() if path.is_file() else shutil.rmtree(path)
    assert home.attempt("small", 2, 0) == home.study("small") / "a1" / "attempts" / "2-0"
    assert Home(home.root).current_study("small") == home.study("small") / "a1"


def test_the_folder_of_a_removed_study_is_not_created_again(home: Home) -> None:
    home.set_current("small", "a1")
    home.remove("small")
    assert home.current_study("small") == home.study("small")
    assert not home.study("small").exists()


def test_a_home_of_an_earlier_version_keeps_its_id(home: Home, tmp_path: Path) -> None:
    (home.root / "id").write_text("5" * 32)
    assert home.uid == "5" * 32
    copy = Home(Path(shutil.copytree(home.root, tmp_path / "copy")))
    assert (home.uid == "5" * 32, copy.uid == "5" * 32) == (True, False)


@pytest.mark.parametrize("left", [b"", b"\0" * 45, b"\xff\xfe 7", b"no-id 12", b"5" * 20, b"1 2 3"])
def test_a_home_with_a_damaged_id_gets_one_new_id(home: Home, left: bytes) -> None:
    uid = home.uid
    (home.root / "id").write_bytes(left)
    with ThreadPoolExecutor(8) as pool:
        found = set(pool.map(lambda _: home.uid, range(8)))
    assert len(found) == 1
    assert found != {uid}
    assert found == {Home(home.root).uid}
    assert {path.name for path in home.root.iterdir()} == {"id"}
