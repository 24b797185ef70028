"""What a contest found: as a table on the screen, as JSON, and in docs/search.md."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.table import Table as ScreenTable

from benchmarks import pages
from benchmarks.replays import figure
from benchmarks.replays.clock import ReplayedStudy
from benchmarks.replays.contenders import FORMER, REFERENCE, Contender
from benchmarks.replays.scores import Estimate, Score

DOCUMENT = Path(__file__).parents[2] / "docs" / "search.md"
_HEAD = (
    "sampler",
    "pruner",
    "training to the target, s",
    "times as fast",
    "reached",
    "final best",
    "its expected accuracy",
    "mean gain",
    "whole study, s",
    "pruned",
)


@dataclass(frozen=True)
class Findings:
    """The fresh repeats' scores."""

    chosen: Contender
    target: float
    scores: Mapping[Contender, Score]
    alone: Mapping[Contender, Score]
    """The same with one trainer."""
    noise: float
    """Standard deviation of one training's best accuracy in the table."""

    def rows(self) -> list[tuple[str, ...]]:
        """The table's cells, the quickest first."""
        ranked = sorted(self.scores, key=lambda one: self.scores[one].race.running_time.value)
        return [(*self._names(one), *_cells(self.scores[one], self.reference)) for one in ranked]

    @property
    def reference(self) -> Score:
        """Random search without pruning."""
        return self.scores[REFERENCE]

    def sentences(self) -> list[str]:
        """What the table does not show."""
        chosen, former = self.scores[self.chosen], self.scores[FORMER]
        alone = self.alone[self.chosen].race.speed_up(self.alone[REFERENCE].race)
        gain = chosen.gain(former)
        repeats = sorted({len(score.best) for score in self.scores.values()})
        return [
            f"Repeats: {' or '.join(map(str, repeats))}. Target: {self.target:.4f}. One training's "
            f"best accuracy has a standard deviation of {self.noise:.4f} about its point's mean.",
            f"Chosen on other seeds: {self.chosen}. It is "
            f"{_times(chosen.race.speed_up(former.race))} times as fast as the former default, "
            f"{FORMER}, and the mean expected accuracy of its trial differs by {_gain(gain)}.",
            f"With one trainer it is {_times(alone)} times as fast as random search.",
        ]

    def to_json(self) -> dict[str, Any]:
        """Everything, raw samples included."""
        return {
            "chosen": {"sampler": self.chosen.sampler, "pruner": self.chosen.pruner},
            "target": self.target,
            "noise": self.noise,
            "fresh": {str(one): score.to_json() for one, score in self.scores.items()},
            "one_trainer": {str(one): score.to_json() for one, score in self.alone.items()},
        }

    def _names(self, one: Contender) -> tuple[str, str]:
        return (
            (f"**{one.sampler}**", f"**{one.pruner}**")
            if one == self.chosen
            else (one.sampler, one.pruner)
        )


def table(found: Findings) -> ScreenTable:
    """The findings for a terminal."""
    screen = ScreenTable(title="searches on fresh seeds", caption="\n".join(found.sentences()))
    for column in _HEAD:
        screen.add_column(column)
    for row in found.rows():
        screen.add_row(*(cell.strip("*").partition(" (")[0] for cell in row))
    return screen


def renew(found: Findings, studies: Mapping[Contender, Sequence[ReplayedStudy]]) -> None:
    """Writes the findings between the document's marks, and its figure."""
    lines = [*pages.table(_HEAD, found.rows()), "", "\n\n".join(found.sentences())]
    page = pages.renewed(DOCUMENT.read_text(encoding="utf-8"), "results", lines)
    DOCUMENT.write_text(page, encoding="utf-8")
    shown = dict.fromkeys(
        (REFERENCE, Contender(found.chosen.sampler, "none"), FORMER, found.chosen)
    )
    figure.draw(
        {str(one): studies[one] for one in shown},
        found.target,
        DOCUMENT.parent / "images" / "search.svg",
    )


def _cells(score: Score, reference: Score) -> tuple[str, ...]:
    return (
        _seconds(score.race.running_time),
        _times(score.race.speed_up(reference.race)),
        f"{score.race.reached.mean():.0%}",
        _accuracy(score.median("best")),
        _accuracy(score.median("expected")),
        _gain(score.gain(reference)),
        _seconds(score.median("seconds")),
        f"{score.median('pruned').value:.0f}",
    )


def _seconds(estimate: Estimate) -> str:
    return f"{estimate.value:.0f} ({estimate.low:.0f} to {estimate.high:.0f})"


def _times(estimate: Estimate) -> str:
    return f"{estimate.value:.2f} ({estimate.low:.2f} to {estimate.high:.2f})"


def _accuracy(estimate: Estimate) -> str:
    return f"{estimate.value:.4f} ({estimate.low:.4f} to {estimate.high:.4f})"


def _gain(estimate: Estimate) -> str:
    return f"{estimate.value:+.4f} ({estimate.low:+.4f} to {estimate.high:+.4f})"
