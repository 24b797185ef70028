"""The table that a benchmark prints: a row a series, with its spread and its ratio."""

from collections.abc import Sequence

from rich.table import Table

from benchmarks.samples import Ratio, Series

_LEFT = ("subject", "measure")
_RIGHT = ("n", "median", "min to max", "times as fast")


def series_table(title: str, series: Sequence[Series], ratios: Sequence[Ratio]) -> Table:
    """Each series' median and spread, and how many times as fast it is as the base."""
    table = Table(title=title)
    for column in _LEFT:
        table.add_column(column, no_wrap=True)
    for column in _RIGHT:
        table.add_column(column, justify="right", no_wrap=True)
    found: dict[tuple[str, str], str] = {}
    for ratio in ratios:
        found.setdefault((ratio.subject, ratio.measure), f"{ratio.median:.2f}")
    for before, one in zip((None, *series), series, strict=False):
        if before and before.measure != one.measure:
            table.add_section()
        table.add_row(
            one.subject,
            one.measure,
            str(len(one.samples)),
            f"{one.median:.4g} {one.unit}".strip(),
            f"{min(one.samples):.4g} to {max(one.samples):.4g}",
            found.get((one.subject, one.measure), ""),
        )
    return table
