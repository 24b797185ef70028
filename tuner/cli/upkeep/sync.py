"""`tuner sync`: sends recorded events to MLflow that it does not have yet."""

from typing import Annotated

import typer

from tuner.errors import UnavailableError
from tuner.words import count


def sync(
    study: Annotated[
        str | None, typer.Argument(metavar="[STUDY]", help="The study's name; all by default.")
    ] = None,
    timeout_s: Annotated[
        float, typer.Option(min=0, help="The time limit for each study, in seconds.")
    ] = 300.0,
) -> None:
    """Send to MLflow the events recorded on this machine that it does not have yet."""
    from tuner.home import Home
    from tuner.recovery.sync import sync as ship

    found = ship(Home.from_environment(), study, timeout_s, lambda text: typer.echo(text, err=True))
    for each in found:
        done = each.before - each.after
        typer.echo(
            f"{each.study}: {count(done, 'event')} shipped, {count(each.after, 'waits', 'wait')}"
        )
    if waiting := [each.study for each in found if each.after]:
        raise UnavailableError(
            f"MLflow does not have all events of {', '.join(waiting)}; run tuner sync again "
            "when it answers"
        )
