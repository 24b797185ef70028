"""Results: what is written can be read back, and says what the samples say."""

from argparse import Namespace
from pathlib import Path

import pytest

from benchmarks import report
from benchmarks.accuracy import mean_with_interval
from benchmarks.committed import read
from benchmarks.harness import Result, interleaved
from benchmarks.samples import Series, paired_ratio


def written(folder: Path) -> Path:
    result = Result("engine", {"epochs": 2}, skipped={"third": "not installed"})
    result.add("first", "epoch", "s", [4.0, 8.0, 2.0])
    result.add("second", "epoch", "s", [1.0, 2.0, 1.0])
    result.compare("first", "epoch")
    return result.write(
        Namespace(results=folder, short=False, rounds=3, load_before=0.1, revision="abc")
    )


def test_rounds_run_every_subject_in_turn() -> None:
    order: list[str] = []
    outcomes = interleaved({"a": lambda: order.append("a"), "b": lambda: order.append("b")}, 2)
    assert order == ["a", "b", "a", "b"]
    assert {name: len(found) for name, found in outcomes.items()} == {"a": 2, "b": 2}


def test_a_ratio_compares_each_round_with_itself() -> None:
    base = Series("first", "epoch", "s", (1.0, 10.0, 100.0))
    ratio = paired_ratio(base, Series("second", "epoch", "s", (0.5, 5.0, 25.0)))
    assert ratio.samples == (2.0, 2.0, 4.0)
    assert ratio.median == 2.0
    assert ratio.interval() is None


def test_rounds_that_only_one_subject_has_are_refused() -> None:
    with pytest.raises(ValueError, match="zip"):
        paired_ratio(Series("first", "epoch", "s", (1.0,)), Series("second", "epoch", "s", ()))


def test_an_interval_lies_around_the_median_within_the_samples() -> None:
    ratio = paired_ratio(
        Series("first", "epoch", "s", (3.0, 4.0, 5.0, 6.0, 7.0)),
        Series("second", "epoch", "s", (1.0,) * 5),
    )
    assert (interval := ratio.interval()) is not None
    assert 3.0 <= interval[0] < ratio.median < interval[1] <= 7.0


def test_a_result_is_read_as_it_was_written(tmp_path: Path) -> None:
    result = read(written(tmp_path))
    assert result is not None
    assert result.of("epoch")["first"].samples == (4.0, 8.0, 2.0)
    assert [ratio.samples for ratio in result.ratios_of("second", "epoch")] == [(4.0, 4.0, 2.0)]


def test_the_document_has_the_figures_and_is_checked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = written(tmp_path).rename(tmp_path / "engine-cpu.json")
    document = tmp_path / "page.md"
    document.write_text(
        "<!-- result engine -->\nold\n<!-- /result -->\n<!-- result none -->\n<!-- /result -->\n"
    )
    arguments = ["report", "--results", str(tmp_path), "--document", str(document)]

    monkeypatch.setattr("sys.argv", [*arguments, "--check"])
    assert report.main() == 1
    monkeypatch.setattr("sys.argv", arguments)
    assert report.main() == 0
    text = document.read_text()
    assert "| second | 1 s (1 to 2), **4.00x** |" in text
    assert "Skipped: third (not installed)." in text
    assert "<!-- result none -->\nNot measured yet.\n<!-- /result -->" in text
    monkeypatch.setattr("sys.argv", [*arguments, "--check"])
    assert report.main() == 0
    path.unlink()
    assert report.main() == 1


def test_a_mean_lies_in_its_interval_which_many_samples_narrow() -> None:
    few, many = (mean_with_interval([0.1, 0.2, 0.3] * count) for count in (1, 20))
    assert [few["mean"], many["mean"]] == pytest.approx([0.2, 0.2])
    # Student's t for two degrees of freedom, 4.303, times 0.1 / sqrt(3).
    assert few["high"] - few["mean"] == pytest.approx(0.2484, abs=1e-4)
    assert few["low"] < many["low"] < 0.2 < many["high"] < few["high"]
