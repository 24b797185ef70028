"""Arguments and options that several commands share."""

from typing import Annotated

import typer

StudyName = Annotated[str, typer.Argument(metavar="STUDY", help="The study's name.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON for programs.")]
