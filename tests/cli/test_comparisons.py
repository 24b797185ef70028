"""What `tuner promote` prints of a comparison with the champion, and why it refuses."""

import pytest

from tuner.cli.results.comparisons import print_comparison, refusal
from tuner.promotion.gates import check
from tuner.promotion.judging.comparison import ChampionComparison, RecallChange
from tuner.spec.study_spec import Gates
from tuner.statistics import PairedShares


def compared(won: int, lost: int, images: int, *recalls: RecallChange) -> ChampionComparison:
    counts = PairedShares(both=images - won - lost - 10, first=won, second=lost, neither=10)
    return ChampionComparison(
        version=4, study="former", trial=2, rows=counts, recalls=recalls, disagreements=()
    )


def refusals(comparison: ChampionComparison, **gates: bool) -> list[str]:
    results = check(comparison.metrics, Gates.model_validate(gates))
    return [refusal(gate, comparison) for gate in results if not gate.passed]


def test_the_difference_is_told_with_its_evidence_and_what_the_images_can_tell(
    capsys: pytest.CaptureFixture[str],
) -> None:
    print_comparison(compared(40, 30, 10_000))
    assert capsys.readouterr().out.splitlines() == [
        "champion, version 4 (trial 2 of former): test accuracy 0.9950 on the same images",
        "difference +0.10 points (95% interval -0.07 to +0.27, p 0.282): the model alone is right "
        "on 40 images, the champion alone on 30",
        "10,000 test images show a true difference of 0.23 points in four of five cases",
    ]


def test_recalls_that_changed_are_shown_and_others_are_not(
    capsys: pytest.CaptureFixture[str],
) -> None:
    fell = RecallChange(label="8", images=100, candidate=0.9, champion=0.99, p_value=0.004)
    stayed = RecallChange(label="7", images=100, candidate=0.9, champion=0.91, p_value=1)
    print_comparison(compared(40, 30, 10_000, fell, stayed))
    out = capsys.readouterr().out
    assert "8       100      0.9900     0.9000" in out
    assert "0.9100" not in out


def test_a_champion_that_is_better_is_named_so() -> None:
    assert refusals(compared(20, 60, 10_000)) == [
        "the champion, version 4, is better by 0.40 points on the same test images; --replace "
        "replaces it nevertheless"
    ]


def test_where_the_images_are_too_few_it_is_told_how_many_would_do_and_what_else_helps() -> None:
    (why,) = refusals(compared(10, 8, 360))
    assert why.startswith("not shown to be as good as the champion, version 4: 0.01517 of accuracy")
    assert "champion_margin allows 0.002; with about 77,282 test images instead of 360" in why
    assert why.endswith("promotion.gates.champion_margin, or replace the champion with --replace")


def test_a_model_that_is_not_shown_to_be_better_is_told_its_chance() -> None:
    (why,) = refusals(compared(40, 30, 10_000), better_than_champion=True)
    assert why.startswith(
        "not shown to be better than the champion, version 4: if both were as good, 40 of 70 "
        "images or more would be won with a chance of 0.141, the limit is 0.05"
    )
