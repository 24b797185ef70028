"""Who runs a process, also where the system does not know the user."""

import os

import pytest

from tuner.account import user

NAMES = ("LOGNAME", "USER", "LNAME", "USERNAME")


@pytest.fixture(autouse=True)
def nameless(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a container that is started with `--user 54321`."""
    for name in NAMES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("os.getuid", lambda: 54321)


def test_a_user_without_a_name_is_a_number() -> None:
    assert user() == "54321"


def test_a_name_that_is_no_text_is_escaped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOGNAME", os.fsdecode(b"ren\xe9"))
    assert user() == r"ren\udce9"
