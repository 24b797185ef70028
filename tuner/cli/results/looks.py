"""`tuner looks`: lists the accesses to test sets."""

import json
from collections import defaultdict
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from tuner.cli.terminal.options import AsJson
from tuner.cli.terminal.terminal_tables import digest, local_time, print_table, score
from tuner.words import count

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tuner.storage.test_set_accesses import TestSetAccess

_COLUMNS = ("access", "when", "who", "why", "study", "trial", "model", "test accuracy")


def looks(
    wanted: Annotated[
        str | None,
        typer.Argument(
            metavar="DATASET-or-STUDY",
            help="A data set, by name or digest, or a study that uses it; all by default.",
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """List who opened a test set, when, why and what they saw, over all studies."""
    from tuner.api import looks as find

    found = find(wanted)
    if as_json:
        typer.echo(json.dumps([asdict(each) for each in found], indent=2))
        return
    if not found:
        typer.echo("no access to the test set yet", err=True)
    by_dataset: dict[str | None, list[TestSetAccess]] = defaultdict(list)
    for each in found:
        by_dataset[each.dataset].append(each)
    for accesses in by_dataset.values():
        print_table(_COLUMNS, map(_row, accesses), title=_title(accesses))


def _title(accesses: "Sequence[TestSetAccess]") -> str:
    last = accesses[-1]
    return (
        f"{last.dataset_name or 'unknown'} ({digest(last.dataset)}): "
        f"{count(last.number, 'access', 'accesses')} with {count(last.models, 'model')}"
    )


def _row(access: "TestSetAccess") -> tuple[str, ...]:
    known = access.user is not None
    return (
        str(access.number),
        local_time(access.at_ms),
        f"{access.user} on {access.host}" if known else "-",
        access.command,
        f"{access.study} (deleted)" if access.deleted else access.study,
        str(access.trial),
        digest(access.model_sha256),
        score(access.evidence["test_accuracy"] if access.evidence else None),
    )
