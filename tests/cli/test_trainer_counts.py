"""`--workers`: one option with one rule, for every command that starts trainers."""

from collections.abc import Callable
from typing import Any

import pytest
from typer.core import TyperGroup
from typer.main import get_command

from tuner import api
from tuner.cli.main import app
from tuner.cli.results.promote import promote
from tuner.cli.running.confirm import confirm
from tuner.errors import SpecError
from tuner.home import Home
from tuner.spec.study_spec import checked_workers
from tuner.storage.opening import open_database
from tuner.storage.studies import Catalog
from tuner.study.study import load_study
from tuner.study.study_file import StudyFile


@pytest.mark.parametrize("command", ["confirm", "promote", "worker"])
def test_each_command_that_starts_trainers_has_the_option_of_run_study(command: str) -> None:
    program = get_command(app)
    assert isinstance(program, TyperGroup)

    def option(name: str) -> Any:
        return next(each for each in program.commands[name].params if each.name == "workers")

    own, first = option(command), option("run-study")
    assert (own.opts, own.help) == (first.opts, first.help)


@pytest.mark.parametrize(
    "begin",
    [
        lambda: confirm("small", workers="0"),
        lambda: promote("best", "small", workers="two"),
        lambda: promote("best", "small", workers="9" * 5000),
        lambda: api.confirm("small", workers=0),
        lambda: api.promote("small", workers=-1),
    ],
)
def test_a_number_of_trainers_that_cannot_be_is_refused_before_anything_is_stored(
    begin: Callable[[], object], studied: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TUNER_HOME", str(studied.root))
    with pytest.raises(SpecError, match=r"^workers: must be auto or a whole number >= 1, got"):
        begin()
    with open_database(studied) as database:
        assert Catalog(database).names() == ["small"]


def test_a_file_takes_another_number_of_trainers_and_keeps_its_own_without_one(
    studied: Home,
) -> None:
    with load_study("small", studied) as study:
        file = StudyFile(study.spec, "study.yaml", ())
    assert file.with_workers(checked_workers(2)).spec.workers == 2
    assert file.with_workers(2).with_workers("auto").spec.workers == "auto"
    assert file.with_workers(2).with_workers(None).spec.workers == 2
