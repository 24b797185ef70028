"""`tuner predict`: asks the champion what pictures show."""

import json
from pathlib import Path
from typing import Annotated

import typer

from tuner.cli.options import AsJson
from tuner.cli.tables import print_table


def predict(
    images: Annotated[list[Path], typer.Argument(metavar="IMAGE...", help="Picture files.")],
    model: Annotated[
        str | None, typer.Option(help="The registered model; the newest study's if left out.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Ask the champion what pictures show, read as its data set reads them: any size and mode."""
    from tuner.home import Home
    from tuner.promotion.asking import Answer, Asking
    from tuner.promotion.nomination import newest_study
    from tuner.tracking.settings import TrackingSettings

    home = Home.from_environment()
    if model is None:
        with newest_study(home) as study:
            model = study.spec.promotion.model
    champion = Asking(TrackingSettings.from_environment(home.root), model, home)
    answers: list[Answer] = [champion.ask(image) for image in images]
    if as_json:
        typer.echo(json.dumps([answer.model_dump(mode="json") for answer in answers], indent=2))
        return
    typer.echo(f"{champion.name} version {champion.version}", err=True)
    print_table(
        ["image", "class", "probability"],
        [(str(each.image), each.label, f"{each.probability:.1%}") for each in answers],
    )
