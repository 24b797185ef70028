"""`tuner looks`: what it prints of the accesses to test sets."""

import json
import re
from collections.abc import Sequence

import pytest

import tuner
from tuner.cli.results.looks import looks
from tuner.home import Home
from tuner.storage.opening import open_database
from tuner.storage.studies import Catalog
from tuner.storage.test_set_accesses import TestSetAccesses

MODEL, OTHER_MODEL = "a1" * 32, "a2" * 32


@pytest.fixture
def opened(studied: Home, monkeypatch: pytest.MonkeyPatch) -> Home:
    """A home with two accesses to its test set, the second of which did not complete."""
    monkeypatch.setenv("TUNER_HOME", str(studied.root))
    monkeypatch.setenv("LOGNAME", "ada")
    monkeypatch.setattr("socket.gethostname", lambda: "lab")
    with open_database(studied) as database:
        study = Catalog(database).get("small")
        accesses = TestSetAccesses(database, study)
        first = accesses.begin(2, "promote", study.dataset.digest, MODEL)
        accesses.complete(first, {"test_accuracy": 0.98765})
        accesses.begin(1, "evaluate", study.dataset.digest, OTHER_MODEL)
    return studied


def fields(line: str) -> Sequence[str]:
    return re.split(r" {2,}", line.strip())


def test_each_access_tells_who_when_why_and_what_was_seen(
    opened: Home, capsys: pytest.CaptureFixture[str]
) -> None:
    with open_database(opened) as database:
        Catalog(database).delete("small")
    looks()
    title, _, head, _, first, second, *_ = capsys.readouterr().out.splitlines()
    assert title.strip() == "digits (000000000000): 2 accesses with 2 models"
    assert fields(head) == [
        "access", "when", "who", "why", "study", "trial", "model", "test accuracy",
    ]  # fmt: skip
    number, when, *rest = fields(first)
    assert (number, rest) == (
        "1",
        ["ada on lab", "promote", "small (deleted)", "2", "a1" * 6, "0.9877"],
    )
    assert re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d", when)
    assert fields(second)[-1] == "-"


def test_programs_get_the_record_as_json(opened: Home, capsys: pytest.CaptureFixture[str]) -> None:
    looks("digits", as_json=True)
    first, second = json.loads(capsys.readouterr().out)
    assert [first["number"], second["number"]] == [1, 2]
    assert first["evidence"] == {"test_accuracy": 0.98765}
    assert (second["user"], second["host"], second["evidence"]) == ("ada", "lab", None)
    (access, _) = tuner.looks("small", home=opened)
    assert access.evidence == first["evidence"]


def test_a_test_set_that_nobody_has_opened_is_said_to_be_closed(
    studied: Home, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("TUNER_HOME", str(studied.root))
    looks("small")
    assert "no access to the test set yet" in capsys.readouterr().err
