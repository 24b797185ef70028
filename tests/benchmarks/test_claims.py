"""The table of the paper's claims, from what a study and a support vector machine reached."""

import json
from pathlib import Path
from typing import Any

from benchmarks.claims import table

CLAIM = {"metric": "val_accuracy", "margin": 0.001, "seeds": 5, "more_seeds": None}


def claim(name: str, verdict: str, **figures: Any) -> dict[str, Any]:
    found = {"difference": 0.01, "low": 0.005, "high": 0.015}
    return {**CLAIM, **found, "name": name, "verdict": verdict, **figures}


def test_each_claim_is_a_row_and_the_svm_is_paired_with_the_network_by_block(
    tmp_path: Path,
) -> None:
    claims = [
        claim("a", "confirmed"),
        claim("b", "undecided", more_seeds=7),
        claim("c", "equivalent"),
        claim("d", "contradicted", metric="train_time_s", difference=9.0, low=8.0, high=10.0),
        claim("e", "undecided", difference=None),
    ]
    values = {0: 0.98, 1: 0.5, 2: 0.983, 3: 0.5, 4: 0.981, 5: 0.5}
    trials = [{"slot": slot, "point": slot % 2, "value": one} for slot, one in values.items()]
    blocks = [{"val_accuracy": 0.97}, {"val_accuracy": 0.972}, {"val_accuracy": 0.971}]
    written = {
        "claims": {"confirmation": {"claims": claims}},
        "claims-race": {"trials": list(reversed(trials))},
        "svm": {"blocks": blocks},
    }
    for name, content in written.items():
        (tmp_path / f"paper-{name}.json").write_text(json.dumps(content), encoding="utf-8")
    assert table(tmp_path).splitlines()[2:] == [
        "| a | `val_accuracy` | +0.0100 | +0.0050 to +0.0150 | 5 | confirmed |",
        "| b | `val_accuracy` | +0.0100 | +0.0050 to +0.0150 | 5 | "
        "undecided; about 7 more seeds would probably decide |",
        "| c | `val_accuracy` | +0.0100 | +0.0050 to +0.0150 | 5 | equivalent within 0.001 |",
        "| d | `train_time_s` | +9.0 | +8.0 to +10.0 | 5 | contradicted |",
        "| e | `val_accuracy` |  |  | 0 | undecided |",
        "| a CNN is more accurate than a support vector machine | `val_accuracy` | +0.0103 | "
        "+0.0089 to +0.0118 | 3 | confirmed |",
    ]
