"""Prints the comparison of a candidate with the champion, and why it is refused."""

from typing import TYPE_CHECKING

from tuner.cli.terminal.terminal_tables import number, print_table, print_text, score
from tuner.words import count

if TYPE_CHECKING:
    from tuner.promotion.gates import GateResult
    from tuner.promotion.judging.comparison import ChampionComparison


def print_comparison(comparison: "ChampionComparison") -> None:
    """Prints the champion's accuracy, the difference with its evidence, and the changed recalls."""
    rows, interval = comparison.rows, comparison.interval
    print_text(
        f"{_champion(comparison)} (trial {comparison.trial} of {comparison.study}): "
        f"test accuracy {score(comparison.test_accuracy)} on the same images\n"
        f"difference {_points(comparison.difference)} points "
        f"(95% interval {_points(interval.low)} to {_points(interval.high)}, "
        f"p {number(rows.p_value)}): the model alone is right on {count(rows.first, 'image')}, "
        f"the champion alone on {rows.second:,}\n"
        f"{count(rows.rows, 'test image')} show a true difference of "
        f"{_unsigned(comparison.detectable)} points in four of five cases"
    )
    _print_recalls(comparison)


def _print_recalls(comparison: "ChampionComparison") -> None:
    changed = [
        (each.label, str(each.images), score(each.champion), score(each.candidate))
        for each in comparison.changed_recalls
    ]
    if changed:
        columns = ["class", "images", "champion", "candidate"]
        print_table(columns, changed, title="recalls that changed by more than chance")


def refusal(gate: "GateResult", comparison: "ChampionComparison") -> str:
    """Why a gate against the champion refuses the candidate, and what would help."""
    champion, rows = _champion(comparison), comparison.rows
    if comparison.interval.high < 0:
        return (
            f"the {champion}, is better by {_unsigned(-comparison.difference)} points on the same "
            "test images; --replace replaces it nevertheless"
        )
    if gate.name == "better_than_champion":
        return (
            f"not shown to be better than the {champion}: if both were as good, {rows.first:,} of "
            f"{count(rows.discordant, 'image')} or more would be won with a chance of "
            f"{number(gate.value)}, the limit is {number(gate.limit)}; --replace replaces it "
            "nevertheless"
        )
    return (
        f"not shown to be as good as the {champion}: {number(gate.value)} of accuracy may be lost "
        f"(95%, one-sided), champion_margin allows {number(gate.limit)}; with about "
        f"{count(rows.rows_for(gate.limit), 'test image')} instead of {rows.rows:,}, a model as "
        "good as the champion would pass in four of five cases; state the loss that you accept as "
        "promotion.gates.champion_margin, or replace the champion with --replace"
    )


def _champion(comparison: "ChampionComparison") -> str:
    return f"champion, version {comparison.version}"


def _points(share: float) -> str:
    """A difference of shares in percentage points, with its sign."""
    return f"{100 * share:+z.2f}"


def _unsigned(share: float) -> str:
    return f"{100 * share:z.2f}"
