"""`tuner show`: shows one study's trials, points, best point and importance."""

import json
from typing import TYPE_CHECKING

import typer

from tuner.cli.terminal.options import AsJson, StudyName
from tuner.cli.terminal.terminal_tables import (
    best_point,
    digest,
    duration,
    mean_of,
    number,
    params,
    print_table,
    print_text,
    run_id,
    score,
)
from tuner.errors import RefusedError, TunerError
from tuner.words import command

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tuner.search.ranking import PointSummary
    from tuner.study.confirmation.report import ConfirmationReport, ConfirmedPoint
    from tuner.study.study import Study
    from tuner.study.summary import StudySummary


_MAY_EQUAL = "may equal"
"""The column that names what a confirmation cannot tell a point from."""


def show(study: StudyName, as_json: AsJson = False) -> None:
    """Show a study: its trials and points, the best point, and the importance of parameters."""
    from tuner.study.confirmation.race_study import find_confirmation
    from tuner.study.confirmation.refit import find_refits
    from tuner.study.confirmation.report import find_report
    from tuner.study.study import load_study

    with load_study(study) as opened:
        summary = opened.summary()
        accesses = len(opened.test_set_accesses.all())
        try:
            confirmed, confirmation = find_report(opened), find_confirmation(opened)
            following = [*filter(None, [confirmation]), *find_refits(opened)]  # what is promoted
        except TunerError as error:  # of another study, or of a newer version
            typer.echo(f"its confirmation and refits are left out: {error}", err=True)
            confirmed, following = None, []
        for each in following:
            accesses += len(each.test_set_accesses.all())
        if as_json:
            fields = {"study", "metric", "counts", "trials", "points", "best"}
            content = summary.model_dump(mode="json", include=fields)
            single = summary.best_single
            content["best_single"] = None if single is None else single.model_dump(mode="json")
            content["precision"] = {
                "chosen": opened.spec.precision,
                "epoch_s": dict(opened.record.epoch_s),
            }
            if confirmed is not None:
                content["confirmation"] = confirmed.model_dump(mode="json")
            typer.echo(json.dumps(content, indent=2))
            return
        print_summary(summary, confirmed=confirmed is not None)
        if opened.spec.origin is None:
            _print_importance(opened)
            if confirmed is None:
                _print_undecided(summary)
        if confirmed is not None:
            print_confirmation(confirmed)
        print_text(f"accesses to the test set: {accesses}")


def print_summary(summary: "StudySummary", *, confirmed: bool = False) -> None:
    """Prints the trials, the points if there are several seeds, and the best point.

    Args:
        summary: the study.
        confirmed: whether a confirmation follows, which says what is best with fresh seeds.
    """
    from tuner.tracking.runs.exports import column

    versions = {trial.code for trial in summary.trials if trial.code}
    marked = len(versions) > 1
    searched = sorted({name for trial in summary.trials for name in trial.params})
    rows = [
        (
            str(trial.number),
            f"{trial.state} *" if trial.unpromotable else trial.state,
            *(number(trial.params.get(name)) for name in searched),
            score(trial.value),
            str(trial.epochs),
            duration(trial.duration_s),
            *([digest(trial.code or None)] if marked else []),
            run_id(trial.run_id),
        )
        for trial in summary.trials
    ]
    head = ["trial", "state"]
    tail = [summary.metric, "epochs", "time", *["code"] * marked, "MLflow run"]
    names = [column(name, (*head, *tail)) for name in searched]
    print_table([*head, *names, *tail], rows)
    for why, trials in _unpromotable(summary).items():
        print_text(f"* cannot be promoted: {why} ({_trials(trials)})")
    counts = ", ".join(f"{count} {state}" for state, count in summary.counts.items() if count)
    if summary.seeds > 1:
        _print_points(summary)
    print_text(f"{summary.study}: {counts}")
    if summary.best is not None:
        _print_best(summary, summary.best, "best of the search" if confirmed else "best")


def _print_best(summary: "StudySummary", best: "PointSummary", title: str) -> None:
    """Prints the best point and, of several seeds, its median training and the luckiest of all."""
    print_text(f"{title}: {best_point(best, summary.metric)}, {_named(best)}")
    if summary.seeds == 1:
        return
    print_text(
        f"trial {best.trial.number}, {summary.metric} {score(best.trial.value)}, "
        "is the median of its seeds and represents it"
    )
    single = summary.best_single
    if single is not None:
        print_text(
            f"best single training: trial {single.number} of point {single.point}, "
            f"{summary.metric} {score(single.value)}, chosen for its value"
        )


def _unpromotable(summary: "StudySummary") -> dict[str, list[int]]:
    """Returns the numbers of the trials that cannot be promoted, by the reason."""
    found: dict[str, list[int]] = {}
    for trial in summary.trials:
        if trial.unpromotable:
            found.setdefault(trial.unpromotable, []).append(trial.number)
    return found


def _trials(numbers: "Sequence[int]") -> str:
    return f"trial{'s' * (len(numbers) > 1)} {', '.join(map(str, numbers))}"


def _named(point: "PointSummary") -> str:
    return params(point.params) or "the fixed parameters"


def check_some_completed(summary: "StudySummary") -> None:
    """Checks that not every trial failed.

    Raises:
        RefusedError: every trial failed.
    """
    if summary.all_failed:
        raise RefusedError(
            f"study {summary.study!r}: every trial failed; for the reasons see error.txt of each "
            "run in MLflow"
        )


def _print_points(summary: "StudySummary") -> None:
    """Prints mean and standard deviation of each point over its seeds, the best point first."""
    rows = [
        (
            str(each.point),
            _named(each),
            f"{each.completed} of {each.seeds}",
            score(each.mean),
            score(each.std),
            " ".join(map(str, sorted(each.trials))),
        )
        for each in summary.points
    ]
    mean = f"mean {summary.metric}"
    head = ["point", "parameters", "seeds", mean, "standard deviation", "trials"]
    print_table(head, rows)


def _print_undecided(summary: "StudySummary") -> None:
    """Says that nothing is known of how points differ, which no confirmation has compared."""
    if len(summary.points) > 1:
        print_text(
            "which points differ from the best one and from the baseline is undecided until:",
            command("confirm", summary.study),
        )


def _print_importance(opened: "Study") -> None:
    importance = opened.importance()
    if importance:
        shares = ", ".join(f"{name} {share:.0%}" for name, share in importance.items())
        print_text(f"importance: {shares}")
    elif opened.spec.domains:
        print_text(f"importance: not known; {opened.why_no_importance()}")


def print_confirmation(found: "ConfirmationReport") -> None:
    """Prints the points of a confirmation, its claims and its verdict."""
    if len(found.points) > 1:
        _print_raced(found)
    if found.claims:
        _print_claims(found)
    for line in filter(None, (*found.lines(), found.missed_line())):
        print_text(line)
    if found.over and len(found.points) > 1:
        chosen = found.of(found.chosen)
        mean = mean_of(found.metric, chosen.mean, chosen.std, chosen.seeds, chosen.seeds)
        print_text(f"its promotion takes point {chosen.point}, {mean}")


def _print_claims(found: "ConfirmationReport") -> None:
    """Prints what was found about each claim."""
    rows = [
        (
            claim.name,
            f"{params(claim.better)} against {params(claim.than)}",
            claim.metric,
            score(claim.difference),
            f"{score(claim.low)} to {score(claim.high)}" if claim.low is not None else "-",
            str(claim.seeds),
            claim.verdict,
        )
        for claim in found.claims
    ]
    head = ["claim", "points", "metric", "difference", "interval", "seeds", "verdict"]
    print_table(head, rows)


def _print_raced(found: "ConfirmationReport") -> None:
    """Prints the points that race."""
    rows = [
        (
            f"{each.point}{' (baseline)' if each.point == found.baseline else ''}",
            params(each.params) or "the fixed parameters",
            str(each.seeds),
            score(each.mean),
            score(each.std),
            _beside_baseline(found, each),
            _may_equal(found, each),
        )
        for each in found.points
    ]
    head = ["point", "parameters", "seeds", f"mean {found.metric}", "standard deviation"]
    print_table([*head, "beside the baseline", _MAY_EQUAL], rows)
    print_text(
        f"{_MAY_EQUAL}: whether a point is as good as the best, the baseline, both or neither, as "
        "far as the race can tell"
    )


def _may_equal(found: "ConfirmationReport", point: "ConfirmedPoint") -> str:
    """What a confirmation cannot tell a point from."""
    like = found.not_told_from(point.point) or ("neither",)
    return "both" if len(like) > 1 else like[0]


def _beside_baseline(found: "ConfirmationReport", point: "ConfirmedPoint") -> str:
    if point.point == found.baseline:
        return ""
    verdict = "" if point.finding is None else point.finding.verdict.value
    left = "" if point.remaining else "left out: behind the leader"
    return ", ".join(filter(None, (verdict, left)))
