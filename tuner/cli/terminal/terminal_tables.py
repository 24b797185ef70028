"""Prints tables and text to standard output, and formats the numbers in them."""

import sys
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from shutil import get_terminal_size
from typing import TYPE_CHECKING

import typer

from tuner.words import seconds as short

if TYPE_CHECKING:
    from rich.console import Group

    from tuner.cli.terminal.layout import Columns
    from tuner.search.ranking import PointSummary
    from tuner.spec.search_space import Scalar


def print_table(columns: Sequence[str], rows: Iterable[Sequence[str]], title: str = "") -> None:
    """Prints a table to standard output. No cell is ever cut.

    On a terminal, heads and cells are folded where the table would be too wide. Elsewhere, such as
    in a pipe, each row is one line, however long.
    """
    from rich.console import Console

    from tuner.cli.terminal import layout

    heads, *cells = (tuple(map(_printable, row)) for row in (columns, *rows))
    fitted = layout.columns(heads, cells, _room())
    if title:
        print_text(title)
    drawn = Console(width=fitted.width, height=len(cells))  # both, or Rich may assume 80 columns
    drawn.print(_table(heads, cells, fitted))


def _table(columns: Sequence[str], rows: Sequence[Sequence[str]], fitted: "Columns") -> "Group":
    """A table between two blank lines."""
    from rich.box import SIMPLE_HEAD
    from rich.console import Group
    from rich.table import Column, Table
    from rich.text import Text

    from tuner.cli.terminal.layout import folded_cell, folded_head

    # Text, since brackets in a string would be read as markup.
    heads = (
        Column(Text(folded_head(column, width)), width=width, overflow="fold")
        for column, width in zip(columns, fitted.widths, strict=True)
    )
    wide = fitted.is_wide
    padding = (0, 1) if wide else (0, fitted.gap - 1, 0, 0)
    table = Table(*heads, box=SIMPLE_HEAD, padding=padding, show_edge=wide, pad_edge=wide)
    for row in rows:
        table.add_row(*map(Text, map(folded_cell, row, fitted.widths)))
    blank = [] if wide else [Text("")]  # an edge is a blank line already
    return Group(*blank, table, *blank)


def print_text(text: str, advised: str = "") -> None:
    """Prints text to standard output. On a terminal, its lines end between words.

    Args:
        text: one or several lines.
        advised: a command that ends the text. It stays in one piece, so that it can be copied.
    """
    from tuner.cli.terminal.layout import folded, words

    room = _room()
    lines = [words(line) for line in text.splitlines()]
    if advised:
        lines[-1] = [*lines[-1], " ", advised]
    for pieces in lines:
        typer.echo("".join(pieces) if room is None else "\n".join(folded(pieces, room)))


def _room() -> int | None:
    """The width of the terminal; None if standard output is a pipe or a file."""
    return get_terminal_size().columns if sys.stdout.isatty() else None


def _printable(cell: str) -> str:
    """Writes line ends and other marks that a terminal obeys as Python does."""
    if cell.isprintable():
        return cell
    return "".join(mark if mark.isprintable() else repr(mark)[1:-1] for mark in cell)


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


def run_id(value: str | None) -> str:
    """Formats the id of an MLflow run: its first 12 digits on a terminal, whole elsewhere."""
    shown = value or "-"
    return shown[:12] if sys.stdout.isatty() else shown


def local_time(at_ms: int) -> str:
    """Formats a time in the time zone of this machine, to the minute."""
    return f"{datetime.fromtimestamp(at_ms / 1000, UTC).astimezone():%Y-%m-%d %H:%M}"


def params(values: "Mapping[str, Scalar]") -> str:
    """Formats parameters as `name=value`, separated by spaces."""
    return " ".join(f"{name}={number(value)}" for name, value in values.items())


def mean_of(metric: str, mean: float | None, std: float | None, n: int, of: int) -> str:
    """Formats a mean over `n` trainings of `of` that a point has, with its standard deviation."""
    lacks = f" of {of}" if n < of else ""
    return f"mean {metric} {score(mean)} (standard deviation {score(std)}, n = {n}{lacks})"


def best_point(best: "PointSummary", metric: str) -> str:
    """Formats the best point: its mean, the standard deviation over its seeds, and their number."""
    if best.seeds == 1:
        return f"point {best.point}, {metric} {score(best.mean)} (trial {best.trial.number}, n = 1)"
    mean = mean_of(metric, best.mean, best.std, best.completed, best.seeds)
    return f"point {best.point}, {mean}"


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
