"""The claims of the paper that a study decided, as a table of `docs/paper.md`.

    tuner run-study studies/paper-claims.yaml
    tuner show paper-claims --json > benchmarks/results/paper-claims.json
    tuner show paper-claims-confirmation --json > benchmarks/results/paper-claims-race.json
    python -m benchmarks.svm
    python -m benchmarks.report

Reads what these have written. The support vector machine is no model of tuner, so it does not race:
its accuracy is compared with that of the paper's network on the same blocks, by one paired t-test.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks import pages
from tuner.statistics import Difference, paired_difference

_LEVEL = 0.05
_HEAD = ("claim", "by", "difference", "interval", "seeds", "verdict")


def table(results: Path) -> str:
    """The table in Markdown, from the folder with the results."""
    found, race, svm = (_read(results / f"paper-{name}.json") for name in _FILES)
    rows = [*map(_row, found["confirmation"]["claims"]), *_against_svm(race, svm)]
    return "\n".join([*pages.table(_HEAD, rows), ""])


_FILES = ("claims", "claims-race", "svm")


def _read(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def _row(claim: dict[str, Any]) -> tuple[str, ...]:
    if claim["difference"] is None:
        return claim["name"], f"`{claim['metric']}`", "", "", "0", claim["verdict"]
    digits = 1 if claim["metric"].endswith("_s") else 4
    low, mean, high = (f"{claim[key]:+.{digits}f}" for key in ("low", "difference", "high"))
    verdict = claim["verdict"]
    if verdict == "equivalent":
        verdict += f" within {claim['margin']:g}"
    name, metric, seeds = claim["name"], f"`{claim['metric']}`", str(claim["seeds"])
    return name, metric, mean, f"{low} to {high}", seeds, f"{verdict}{_more(claim)}"


def _more(claim: dict[str, Any]) -> str:
    if claim["verdict"] != "undecided" or claim["more_seeds"] is None:
        return ""
    return f"; about {claim['more_seeds']} more seeds would probably decide"


def _against_svm(race: dict[str, Any], svm: dict[str, Any]) -> Iterator[tuple[str, ...]]:
    points = max(trial["point"] for trial in race["trials"]) + 1
    reached = {each["slot"] // points: each for each in race["trials"] if each["point"] == 0}
    ours = [reached[block]["value"] for block in range(len(svm["blocks"]))]
    theirs = [block["val_accuracy"] for block in svm["blocks"]]
    found = paired_difference(ours, theirs)
    limits = found.interval(_LEVEL)
    yield (
        "a CNN is more accurate than a support vector machine",
        "`val_accuracy`",
        f"{found.mean:+.4f}",
        f"{limits.low:+.4f} to {limits.high:+.4f}",
        str(found.pairs),
        _verdict(found),
    )


def _verdict(found: Difference) -> str:
    if found.p_value > _LEVEL:
        return "undecided"
    return "confirmed" if found.mean > 0 else "contradicted"
