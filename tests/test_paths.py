"""No name that a database or a spool gives leads out of the folder that it is put into."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tuner.errors import UsageError
from tuner.files import is_folder_name, stays_inside
from tuner.home import Home

parts = st.one_of(st.sampled_from(["", ".", "..", "a", "\0", "..a"]), st.text(max_size=3))
paths = st.lists(parts, max_size=5).map("/".join)


@given(paths)
def test_a_path_that_is_taken_lies_below_its_folder(path: str) -> None:
    folder = Path("/some/folder")
    if stays_inside(path):
        target = Path(os.path.normpath(folder / path))
        assert folder in target.parents
        assert is_folder_name(path) == (target.parent == folder)
        os.fsencode(target)


@given(st.lists(st.from_regex(r"\w+", fullmatch=True), min_size=1).map("/".join))
def test_a_plain_path_is_taken(path: str) -> None:
    assert stays_inside(path)


@pytest.mark.parametrize("name", ["../outside", "/outside", "..", ".", "", "a/b", "a\0"])
def test_a_home_makes_no_folder_outside_of_itself(tmp_path: Path, name: str) -> None:
    home = Home(tmp_path / "deep" / "home")
    home.set_current("digits", "a1")
    before = set(tmp_path.rglob("*"))
    makers: list[Callable[[], object]] = [
        lambda: home.set_current(name, "a1"),
        lambda: home.set_current("digits", name),
        lambda: home.trainer_logs(name).mkdir(),
    ]
    for make in makers:
        with pytest.raises(UsageError, match="cannot be the name of a folder"):
            make()
    assert set(tmp_path.rglob("*")) == before
