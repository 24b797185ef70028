"""Formats tables and numbers for the terminal."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from tuner.words import count
from tuner.words import seconds as short

if TYPE_CHECKING:
    from tuner.search.ranking import PointSummary
    from tuner.spec.search_space import Scalar


def print_table(columns: Sequence[str], rows: Iterable[Sequence[str]], title: str = "") -> None:
    """Prints a table to standard output. In a pipe, columns are not truncated."""
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Column, Table
    from rich.text import Text

    console = Console()
    if not console.is_terminal:
        console = Console(width=200)
    # Text, since brackets in a string would be read as markup.
    shown = Text(title) if title else None
    heads = (Column(Text(column)) for column in columns)
    table = Table(*heads, title=shown, title_justify="left", box=SIMPLE_HEAD)
    for row in rows:
        table.add_row(*map(Text, row))
    console.print(table)


def number(value: "Scalar | None") -> str:
    """Formats a parameter or metric with up to four significant digits; a dash for None."""
    if value is None:
        return "-"
    return f"{value:z.4g}" if isinstance(value, float) else str(value)


def score(value: float | None) -> str:
    """Formats a metric with four decimals and without negative zero; a dash for None."""
    return "-" if value is None else f"{value:z.4f}"


def digest(value: str | None) -> str:
    """Formats a digest by its first 12 digits, as MLflow does; a dash for None."""
    return "-" if value is None else value[:12]


def local_time(at_ms: int) -> str:
    """Formats a time in the time zone of this machine, to the minute."""
    return f"{datetime.fromtimestamp(at_ms / 1000, UTC).astimezone():%Y-%m-%d %H:%M}"


def params(values: "Mapping[str, Scalar]") -> str:
    """Formats parameters as `name=value`, separated by spaces."""
    return " ".join(f"{name}={number(value)}" for name, value in values.items())


def best_point(best: "PointSummary", metric: str) -> str:
    """Formats the best point: trial and value, or mean and standard deviation over its seeds."""
    if best.seeds == 1:
        return f"trial {best.trial.number}, {metric} {score(best.mean)}"
    lacks = f"{best.completed} of " if best.completed < best.seeds else ""
    return (
        f"point {best.point}, mean {metric} {score(best.mean)} "
        f"(standard deviation {score(best.std)}, {lacks}{count(best.seeds, 'seed')})"
    )


def duration(seconds: float | None) -> str:
    """Formats seconds as `45 s`, `3 min 20 s` or `2 h 5 min`; a dash for None."""
    if seconds is None:
        return "-"
    whole = round(seconds)
    if whole < 1:
        return short(seconds)
    if whole < 100:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"
