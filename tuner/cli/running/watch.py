"""`tuner watch`: follows a study that other processes run."""

import typer

from tuner.cli.terminal.options import StudyName
from tuner.words import command


def watch(study: StudyName) -> None:
    """Follow a study to its end, wherever it runs; Ctrl-C ends only this command."""
    from rich.console import Console

    from tuner.cli.results.show import check_some_completed, print_summary
    from tuner.cli.terminal.live_view import view
    from tuner.home import Home
    from tuner.study.driver_events import SetupStep
    from tuner.study.study import load_study
    from tuner.study.submissions import wait_until_started

    home = Home.from_environment()
    with view(Console(stderr=True)) as shown:
        wait_until_started(home, study, lambda text: shown.show(SetupStep(text)))
        with load_study(study, home) as opened:
            summary = opened.follow(shown.show, stopped=lambda: False)
    print_summary(summary)
    check_some_completed(summary)
    if not summary.done:
        typer.echo(f"{study} was stopped; resume it with: {command('resume', study)}", err=True)
