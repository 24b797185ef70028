"""What `benchmarks.promotion` found, as data and as the tables of docs/search.md."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from benchmarks import pages
from benchmarks.process import ROOT
from tuner.statistics import Interval, wilson_interval

DOCUMENT = ROOT / "docs" / "search.md"


@dataclass(frozen=True)
class Share:
    """How often something happened."""

    times: int
    of: int

    @property
    def interval(self) -> Interval:
        """Wilson's, at 95%."""
        return wilson_interval(self.times / self.of, self.of)

    def __str__(self) -> str:
        low, high = self.interval.low, self.interval.high
        return f"{self.times / self.of:.1%} ({low:.1%} to {high:.1%})"


@dataclass(frozen=True)
class Row:
    """One kind of study, and what the two ways made of it."""

    noise: str
    gain: float
    rules: str
    best_called_better: Share
    """How often the best training was above the baseline's."""
    best_was_better: Share
    """How often it was of the point that is better."""
    confirmed: Share
    """How often a point was confirmed to be better than the baseline."""
    confirmed_was_better: Share
    """How often the point that was chosen is the one that is better."""
    trainings: float
    """The mean number of trainings of a confirmation."""


@dataclass(frozen=True)
class Contest:
    """A champion against candidates that are truly better or worse by the same amount."""

    images: int
    accuracy: float
    """The champion's."""
    difference: float
    """The candidates' true accuracy minus the champion's."""
    replaced: Share
    """How often the candidate replaced the champion by the default gate, `champion_margin`."""
    shown_better: Share
    """How often with `better_than_champion` too."""


def renew(content: Mapping[str, Any]) -> str:
    """Returns the document with the rows of a result between their marks."""
    page = pages.renewed(DOCUMENT.read_text(encoding="utf-8"), "promotion", _studies(content))
    return pages.renewed(page, "contests", _contests(content["contests"]))


def _studies(content: Mapping[str, Any]) -> list[str]:
    head = (
        "noise",
        "gain of one point",
        "best training above the baseline's",
        "and it was the better point",
        "confirmation",
        "called better than the baseline",
        "and it was the better point",
        "trainings",
    )
    return [
        *pages.table(head, (row_cells(_row(each)) for each in content["rows"])),
        "",
        f"{content['repeats']:,} studies of {content['points']} points each; 95% intervals. A "
        "training deviates from its point's mean with a standard deviation of "
        f"{content['standard_deviation']:.4f}.",
    ]


def _contests(content: Mapping[str, Any]) -> list[str]:
    head = (
        "test images",
        "champion's true accuracy",
        "candidate's, in points more",
        "replaces the champion",
        "with `better_than_champion`",
    )
    return [
        *pages.table(head, (contest_cells(_contest(each)) for each in content["rows"])),
        "",
        f"{content['repeats']:,} candidates each, which share {content['shared']:.0%} of a "
        "champion's wrong answers if they are as good; 95% intervals.",
    ]


def _row(stored: Mapping[str, Any]) -> Row:
    return Row(**_with_shares(stored))


def _contest(stored: Mapping[str, Any]) -> Contest:
    return Contest(**_with_shares(stored))


def _with_shares(stored: Mapping[str, Any]) -> dict[str, Any]:
    shares = {name: Share(**each) for name, each in stored.items() if isinstance(each, dict)}
    return {**stored, **shares}


def contest_cells(found: Contest) -> tuple[str, ...]:
    """A contest's cells in the table."""
    return (
        f"{found.images:,}",
        f"{found.accuracy:.4g}",
        f"{100 * found.difference:+.1f}" if found.difference else "equal",
        str(found.replaced),
        str(found.shown_better),
    )


def row_cells(row: Row) -> tuple[str, ...]:
    """The cells of a kind of study in the table."""
    return (
        row.noise,
        f"{row.gain:g}",
        str(row.best_called_better),
        str(row.best_was_better) if row.gain else "-",
        row.rules,
        str(row.confirmed),
        str(row.confirmed_was_better) if row.gain else "-",
        f"{row.trainings:.1f}",
    )
