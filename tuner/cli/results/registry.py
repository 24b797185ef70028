"""`tuner registry`: lists registered models, shows their history, and rolls one back."""

import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated

import typer

from tuner.cli.terminal.options import AsJson
from tuner.cli.terminal.terminal_tables import local_time, print_table, print_text, run_id, score

if TYPE_CHECKING:
    from tuner.promotion.registry.history import PastAct
    from tuner.promotion.registry.registered import Model, Version

registry = typer.Typer(no_args_is_help=True, help="Show and roll back registered models.")

ModelName = Annotated[str, typer.Argument(metavar="NAME", help="The registered model's name.")]


@registry.command("list")
def list_models(as_json: AsJson = False) -> None:
    """List the models that tuner registered, with their champions."""
    from tuner.api import registered_models

    models = registered_models()
    if as_json:
        typer.echo(json.dumps([each.model_dump(mode="json") for each in models], indent=2))
        return
    if not models:
        typer.echo("nothing promoted yet: run tuner promote best", err=True)
        return
    print_table(
        ["model", "versions", "champion", "test accuracy", "study", "previous"],
        [_row(each) for each in models],
    )


@registry.command()
def show(name: ModelName, as_json: AsJson = False) -> None:
    """Show the versions of a model."""
    from tuner.api import registered_models
    from tuner.errors import UsageError, unknown

    models = {each.name: each for each in registered_models()}
    if name not in models:
        raise UsageError(unknown("registered model", name, models))
    model = models[name]
    if as_json:
        typer.echo(model.model_dump_json(indent=2))
        return
    print_table(
        ["version", "", "registered", "study", "trial", "test accuracy", "MLflow run"],
        [_version_row(model, each) for each in model.versions],
    )
    for version in model.versions:
        for key in version.unreadable:
            typer.echo(f"{name} version {version.version}: its tag {key} is damaged", err=True)
    champion = model.version(model.champion)
    if champion is not None and champion.verdict:
        print_text(f"version {champion.version}: {champion.verdict}")


@registry.command()
def history(name: ModelName, as_json: AsJson = False) -> None:
    """Show who made which version the champion, when and why, the newest last."""
    from tuner.api import promotion_history

    found = promotion_history(name)
    if as_json:
        typer.echo(found.model_dump_json(indent=2))
        return
    for key in found.unreadable:
        typer.echo(f"{name}: the record in the tag {key} is damaged, and left out", err=True)
    if not found.acts:
        typer.echo(f"{name} has no record: an earlier version of tuner promoted it", err=True)
        return
    rows = [
        (
            local_time(act.at_ms),
            _act(act),
            str(act.version),
            "-" if act.before is None else str(act.before),
            f"{act.user} on {act.host}",
            act.why or "-",
        )
        for act in found.acts
    ]
    print_table(["when", "act", "version", "before", "who", "why"], rows)
    for alias in found.moved:
        typer.echo(f"{name}: @{alias} was moved since by hand or by another tool", err=True)


@registry.command()
def rollback(
    name: ModelName,
    to: Annotated[
        int | None, typer.Option(metavar="VERSION", help="By default the champion before.")
    ] = None,
    why: Annotated[str, typer.Option(help="The reason, for the record.")] = "",
) -> None:
    """Make an earlier version the champion again. Opens no test set."""
    from tuner.api import rollback as roll_back

    act = roll_back(name, to=to, why=why)
    if act is None:
        typer.echo(f"{name} version {to} is the champion already", err=True)
    else:
        typer.echo(f"{name} version {act.version} is now @champion, version {act.before} @previous")


def _act(act: "PastAct") -> str:
    beside = ", challenger" if act.alias == "challenger" else ""
    return f"{act.kind}{beside}{'' if act.completed else ', not completed'}"


def _row(model: "Model") -> tuple[str, ...]:
    champion = model.version(model.champion)
    return (
        model.name,
        str(len(model.versions)),
        _shown(model.champion),
        score(champion.test_accuracy if champion else None),
        champion.study if champion else "-",
        _shown(model.previous),
    )


def _version_row(model: "Model", version: "Version") -> tuple[str, ...]:
    return (
        str(version.version),
        ", ".join(_aliases(model, version))
        or ("" if version.status == "READY" else version.status),
        local_time(version.created_ms),
        version.study,
        version.trial,
        score(version.test_accuracy),
        run_id(version.run_id),
    )


def _aliases(model: "Model", version: "Version") -> Iterator[str]:
    for alias, number in (
        ("champion", model.champion),
        ("previous", model.previous),
        ("challenger", model.challenger),
    ):
        if number == version.version:
            yield alias


def _shown(number: int | None) -> str:
    return "-" if number is None else str(number)
