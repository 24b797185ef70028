"""How the command words what it counts and measures."""

import re
import shlex
from pathlib import Path

import pytest
from typer.core import TyperGroup
from typer.main import get_command

import tuner
from tuner.cli.main import app
from tuner.cli.results.promote import promote
from tuner.cli.results.show import check_some_completed
from tuner.cli.terminal.live_view import line
from tuner.cli.terminal.terminal_tables import duration, number, print_table, score
from tuner.errors import RefusedError, UsageError
from tuner.study.driver_events import EpochDone, Planned
from tuner.study.summary import StudySummary
from tuner.words import command


def planned(slots: int, epochs: int, trainers: int, epoch_s: float, **changes: bool) -> str:
    plan = Planned(
        study="small", metric="val_accuracy", slots=slots, done=0, epochs=epochs,
        epoch_s=epoch_s, trainers=trainers, best=None, **changes,
    )  # fmt: skip
    return line(plan, plan.metric)


def test_text_in_a_table_is_shown_as_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    print_table(["a [b]"], [["see [/tmp/log]"], ["[bold]x"]], title="of [red]y")
    shown = capsys.readouterr().out
    assert all(text in shown for text in ("a [b]", "see [/tmp/log]", "[bold]x", "of [red]y"))


def test_what_is_one_is_not_many_and_what_is_little_is_not_nothing() -> None:
    one = planned(1, 1, 1, 0.0042)
    assert one.startswith("small: 1 trial of 1 epoch on 1 trainer; an epoch takes 0.0042 s here")
    many = planned(3, 2, 2, 4.26)
    assert many.startswith("small: 3 trials of 2 epochs on 2 trainers; an epoch takes 4.3 s here")
    assert many.endswith("so about 17 s")
    assert planned(3, 2, 2, 4.26, prunes=True).endswith("so about 17 s if nothing is pruned")
    assert planned(3, 2, 2, 4.26, races=True).endswith("so at least about 17 s")
    told = EpochDone(0, 1, 1, {"val_accuracy": 1.0, "loss": -1e-8}, 0.031)
    assert line(told, "val_accuracy").endswith("val_accuracy 1.0000, loss 0.0000, 0.031 s")
    assert (score(-1e-9), number(-0.0), duration(0.31), duration(1.2)) == (
        "0.0000", "0", "0.31 s", "1 s",
    )  # fmt: skip


def test_a_study_without_a_result_points_at_no_lines_that_are_not_there() -> None:
    counts = dict.fromkeys(("completed", "pruned", "failed", "running", "waiting"), 0)
    summary = StudySummary(
        study="small", metric="val_accuracy", direction="maximize", slots=1, seeds=1,
        counts={**counts, "failed": 1}, best=None, trials=(), points=(),
    )  # fmt: skip
    with pytest.raises(RefusedError) as refused:
        check_some_completed(summary)
    assert "every trial failed" in str(refused.value)
    assert "above" not in str(refused.value)


def test_a_promotion_that_states_no_trial_is_told_of_the_best_point() -> None:
    with pytest.raises(UsageError, match="give `tuner promote best small` for its best point"):
        promote("small")


def test_an_advised_command_names_the_study_to_the_shell_as_it_is_called() -> None:
    name = 'it\'s $HOME; "mine"'
    assert shlex.split(command("show", name)) == ["tuner", "show", name]
    assert command("promote", "best", "paper-sweep") == "tuner promote best paper-sweep"


def test_an_advised_command_of_a_group_is_read_as_it_was_meant_too() -> None:
    assert command("registry history", "-m") == "tuner registry history -- -m"


@pytest.mark.parametrize("name", ["-1", "--fix", "--", "it's -mine", "small"])
@pytest.mark.parametrize(
    ("arguments", "options", "read"),
    [
        (["show"], [], {"study": "{}"}),
        (["doctor"], ["--fix"], {"study": "{}", "fix": True}),
        (["promote", "best"], ["--unconfirmed"], {"study": "{}", "unconfirmed": True}),
        (["promote"], ["--trial", "3"], {"which": "{}", "trial": 3}),
        (["predict", "IMAGE"], ["--model", "{}"], {"model": "{}"}),
    ],
)
def test_an_advised_command_is_read_as_it_was_meant_whatever_the_study_is_called(
    name: str, arguments: list[str], options: list[str], read: dict[str, object]
) -> None:
    stated = [option.format(name) for option in options]
    names = [] if "{}" in options else [name]
    typed = shlex.split(command(*arguments, *names, options=stated))
    assert typed[:2] == ["tuner", arguments[0]]
    program = get_command(app)
    assert isinstance(program, TyperGroup)
    context = program.commands[arguments[0]].make_context(arguments[0], typed[2:])
    for parameter, value in read.items():
        expected = value.format(name) if isinstance(value, str) else value
        assert context.params[parameter] == expected


def test_every_advised_command_with_a_name_in_it_is_quoted() -> None:
    naming = "confirm|delete|doctor|evaluate|pause|predict|promote|resume|show|stop|verify|watch"
    unquoted = re.compile(rf"(?:\btuner|program\(\)\}}) (?:{naming})(?: best| --[a-z-]+)* \{{.*")
    sources = Path(tuner.__file__).parent.rglob("*.py")
    assert [found for file in sources for found in unquoted.findall(file.read_text())] == []
