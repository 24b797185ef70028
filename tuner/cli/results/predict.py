"""`tuner predict`: classifies images with the promoted model."""

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
    from tuner.promotion.registry.classification import Classification, Classifier


def predict(
    images: Annotated[list[Path], typer.Argument(metavar="IMAGE...", help="Image files.")],
    model: Annotated[
        str | None, typer.Option(help="The registered model; that of the newest study by default.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Classify images of any size and mode with the promoted model.

    An image that cannot be read is reported, the others are classified, and the exit code is 4.
    """
    from tuner.home import Home
    from tuner.promotion.registry.classification import Classifier
    from tuner.tracking.settings import TrackingSettings

    home = Home.from_environment()
    name = model or _newest_model(home)
    champion = Classifier(TrackingSettings.from_environment(home.root), name, home)
    if not as_json:
        typer.echo(f"{champion.name} version {champion.version}", err=True)
    if champion.trust:
        typer.echo(f"{champion.name} version {champion.version}: {champion.trust}", err=True)
    answers, failures = _classify(champion, images)
    _print(images, answers, failures, as_json=as_json)
    if failures:
        raise DataError(f"{len(failures)} of {len(images)} images could not be classified")


def _newest_model(home: "Home") -> str:
    """Returns the registered model of the newest study with a completed trial."""
    from tuner.promotion.nomination import newest_study

    try:
        with newest_study(home) as study:
            return study.spec.promotion.model
    except RefusedError as error:
        raise RefusedError(
            f"no promoted model: no study in {home.root} has a completed trial; run one with tuner "
            "run-study FILE, then tuner promote best; or name a registered model with --model, or "
            "another folder with TUNER_HOME"
        ) from error


def _classify(
    champion: "Classifier", images: "Sequence[Path]"
) -> "tuple[dict[Path, Classification], dict[Path, str]]":
    """Returns the answers, and the errors of other images, which it also prints."""
    answers: dict[Path, Classification] = {}
    failures: dict[Path, str] = {}
    for image in images:
        try:
            answers[image] = champion.classify(image)
        except DataError as error:
            failures[image] = str(error)
            typer.echo(str(error), err=True)
    return answers, failures


def _print(
    images: "Sequence[Path]",
    answers: "Mapping[Path, Classification]",
    failures: "Mapping[Path, str]",
    *,
    as_json: bool,
) -> None:
    if as_json:
        content = [
            answers[image].model_dump(mode="json")
            if image in answers
            else {"image": str(image), "error": failures[image]}
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
