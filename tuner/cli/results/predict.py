"""`tuner predict`: asks the champion what pictures show."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tuner.cli.terminal.options import AsJson
from tuner.cli.terminal.terminal_tables import print_table
from tuner.errors import DataError, RefusedError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from tuner.home import Home
    from tuner.promotion.registry.asking import Answer, Asking


def predict(
    images: Annotated[list[Path], typer.Argument(metavar="IMAGE...", help="Picture files.")],
    model: Annotated[
        str | None, typer.Option(help="The registered model; the newest study's if left out.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Ask the champion what pictures show, read as its data set reads them: any size and mode.

    A picture that cannot be read is named, and the others are answered; the exit code is then 4.
    """
    from tuner.home import Home
    from tuner.promotion.registry.asking import Asking
    from tuner.tracking.settings import TrackingSettings

    home = Home.from_environment()
    name = model or _newest_model(home)
    champion = Asking(TrackingSettings.from_environment(home.root), name, home)
    if not as_json:
        typer.echo(f"{champion.name} version {champion.version}", err=True)
    if champion.trust:
        typer.echo(f"{champion.name} version {champion.version}: {champion.trust}", err=True)
    answers, unanswered = _ask(champion, images)
    _print(images, answers, unanswered, as_json=as_json)
    if unanswered:
        raise DataError(f"{len(unanswered)} of {len(images)} pictures have no answer")


def _newest_model(home: "Home") -> str:
    """The registered model of the newest study with a completed trial."""
    from tuner.promotion.nomination import newest_study

    try:
        with newest_study(home) as study:
            return study.spec.promotion.model
    except RefusedError as error:
        raise RefusedError(
            "no champion to ask: no study here has a completed trial; run one with tuner "
            "run-study FILE, then tuner promote best, or name a registered model with --model "
            f"(here is {home.root}; TUNER_HOME names another folder)"
        ) from error


def _ask(
    champion: "Asking", images: "Sequence[Path]"
) -> "tuple[dict[Path, Answer], dict[Path, str]]":
    """The answers, and why the other pictures have none; each is said on standard error."""
    answers: dict[Path, Answer] = {}
    unanswered: dict[Path, str] = {}
    for image in images:
        try:
            answers[image] = champion.ask(image)
        except DataError as error:
            unanswered[image] = str(error)
            typer.echo(str(error), err=True)
    return answers, unanswered


def _print(
    images: "Sequence[Path]",
    answers: "Mapping[Path, Answer]",
    unanswered: "Mapping[Path, str]",
    *,
    as_json: bool,
) -> None:
    if as_json:
        content = [
            answers[image].model_dump(mode="json")
            if image in answers
            else {"image": str(image), "error": unanswered[image]}
            for image in images
        ]
        typer.echo(json.dumps(content, indent=2))
    elif answers:
        rows = [
            (str(image), answers[image].label, f"{answers[image].probability:.1%}")
            for image in images
            if image in answers
        ]
        print_table(["image", "class", "probability"], rows)
