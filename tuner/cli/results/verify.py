"""`tuner verify`: repeats a recorded training, and says whether it gives the same."""

from typing import Annotated

import typer

from tuner.cli.terminal.options import AsJson, StudyName
from tuner.cli.terminal.terminal_tables import print_text
from tuner.errors import RefusedError


def verify(
    study: StudyName,
    trial: Annotated[
        int | None,
        typer.Option(help="A completed or pruned trial; by default that of the best point."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Repeat a recorded training from its record, and compare the two bit for bit."""
    from tuner.api import verify as verify_trial
    from tuner.verification.comparison import Agreement

    found = verify_trial(study, trial=trial, say=lambda text: typer.echo(text, err=True))
    if as_json:
        typer.echo(found.model_dump_json(indent=2))
    else:
        for line in found.lines():
            print_text(line)
    if found.agreement is Agreement.DIFFERENT:
        raise RefusedError(f"trial {found.trial} of {found.study} does not repeat: {found.first}")
