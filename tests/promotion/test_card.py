"""The model card: what it tells, in Markdown and as a page."""

import numpy as np
import pytest

from tuner.datasets.store import DatasetInfo
from tuner.inference.latency import Latency
from tuner.promotion.candidate import Candidate, Grounds
from tuner.promotion.gates import GateResult
from tuner.promotion.judging.evidence import Evidence
from tuner.promotion.registry.card import LONGEST, as_html, model_card, short_card
from tuner.promotion.report import PromotionReport
from tuner.search.race import Verdict
from tuner.spec.study_spec import Promotion
from tuner.tracking.spool.spool_events import MissedImage
from tuner.training.plan import ModelPlan
from tuner.training.scores import evaluate_predictions

LINE = "point 4 is better than the baseline: val_accuracy +0.0030"


def candidate(dataset: DatasetInfo) -> Candidate:
    return Candidate(
        study="sweep-refit",
        study_uid="5a" * 16,
        number=0,
        run_id="a" * 32,
        params={"learning_rate": 0.002},
        model=ModelPlan(name="paper-cnn"),
        backend="tensorflow",
        metric="accuracy",
        value=0.9,
        validated=None,
        model_sha256="b" * 64,
        train_time_s=1.0,
        dataset=dataset,
        promotion=Promotion(model="digits"),
        grounds=Grounds(study="sweep", point=4, verdict=Verdict.BETTER, refit=True, lines=(LINE,)),
    )


def report(classes: tuple[str, ...]) -> PromotionReport:
    """Of a model that takes every third image of the last class for the first class."""
    labels = np.arange(30 * len(classes)) % len(classes)
    answers = np.eye(len(classes), dtype=np.float32)[labels]
    wrong = np.flatnonzero(labels == len(classes) - 1)[::3]
    answers[wrong] = np.eye(len(classes), dtype=np.float32)[0]
    evidence = Evidence(
        train_accuracy=0.99,
        latency=Latency(p50_ms=0.2, p95_ms=0.31, p99_ms=0.5, calls=1000),
        train_time_s=1.0,
        model_mb=0.9,
        parameters=225_034,
        test=evaluate_predictions(answers, labels, classes),
        test_count=len(labels),
    )
    gates = (GateResult(name="test_accuracy", passed=True, value=0.96, limit=0.9),)
    return PromotionReport(
        model="digits", run_id="a" * 32, metrics={}, gates=gates, evidence=evidence
    )


def test_a_card_says_what_was_trained_why_and_how_good_it_is(digits: DatasetInfo) -> None:
    card = model_card(candidate(digits), report(digits.classes))
    assert card.startswith("# digits\n")
    for part in (
        "point 4 of study sweep, trial 0 of sweep-refit",
        "those for validation too (refit)",
        "`learning_rate=0.002`",
        digits.digest,
        f"- {LINE}",
        "The network has 225,034 parameters, 0.90 MB.",
        "Accuracy **0.9667** (95% interval 0.93",
        "| test_accuracy | 0.96 | 0.9 | passed |",
        "| 9 | 1.0000 | 0.6667 | 0.8000 | 30 |",
        "The class it finds least often is 9: recall 0.6667",
        "Most often confused: 9 taken for 0 (10)",
        'mlflow.keras.load_model("models:/digits@champion")',
    ):
        assert part in card


def test_a_card_shows_the_images_that_every_training_missed(digits: DatasetInfo) -> None:
    images = tuple(
        MissedImage(
            row=row,
            file=f"a_b/{row}.png",
            label="4",
            predicted="9",
            agreeing=8,
            trainings=9,
            probability=0.97,
        )
        for row in range(30)
    )
    trained = candidate(digits)
    assert trained.grounds is not None
    assert "every training missed" not in model_card(trained, report(digits.classes))

    def card(missed: tuple[MissedImage, ...]) -> str:
        update = {"missed": missed, "confirmation": "sweep-confirmation"}
        grounds = trained.grounds and trained.grounds.model_copy(update=update)
        return model_card(trained.model_copy(update={"grounds": grounds}), report(digits.classes))

    shown = card(images)
    assert "put 30 training images into another class than the label's" in shown
    assert "Most often: 4 taken for 9 (30)." in shown
    assert "| 0 | a_b/0.png | 4 | 9 | 8 of 9 | 0.9700 |" in shown
    assert shown.count("| 8 of 9 |") == 10
    assert "put 0 training images into another class" in card(())


def test_a_challengers_card_names_the_challenger(digits: DatasetInfo) -> None:
    waived = GateResult(name="champion_margin", passed=False, value=0.01, limit=0.002)
    beside = report(digits.classes).model_copy(update={"challenger": True, "gates": (waived,)})
    card = model_card(candidate(digits), beside)
    assert "| champion_margin | 0.01 | 0.002 | waived |" in card
    assert 'mlflow.keras.load_model("models:/digits@challenger")' in card


def test_a_description_begins_with_a_sentence_and_has_lists_for_tables(
    digits: DatasetInfo,
) -> None:
    text = short_card(candidate(digits), report(digits.classes))
    assert text.startswith("Classifies images of 8 x 8 pixels")
    assert "|" not in text
    assert "# digits" not in text
    assert "By gate:\n\n- test_accuracy: value 0.96, limit 0.9, passed" in text
    assert "- 9: precision 1.0000, recall 0.6667, F1 0.8000, images 30" in text
    page = as_html(text, "digits", b"")
    assert "<li>9: precision" in page


def test_a_page_breaks_a_long_digest(digits: DatasetInfo) -> None:
    page = as_html(model_card(candidate(digits), report(digits.classes)), "digits", b"")
    assert "overflow-wrap:break-word" in page


def test_a_page_has_tables_and_the_picture_and_fetches_nothing(digits: DatasetInfo) -> None:
    card = model_card(candidate(digits), report(digits.classes))
    page = as_html(card, "digits", b"\x89PNG picture")
    assert "<td>0.6667</td>" in page
    assert 'src="data:image/png;base64,' in page
    assert "http" not in page.replace(digits.source, "")


@pytest.mark.parametrize("name", ["a|b", "*bold*", "<script>x</script>", "[x](y)", "# x"])
def test_names_of_a_users_own_are_shown_as_they_are(name: str, digits: DatasetInfo) -> None:
    classes = (name, *digits.classes[1:])
    named = candidate(digits.model_copy(update={"classes": classes}))
    page = as_html(model_card(named, report(classes)), name, b"")
    shown = name.replace("<", "&lt;").replace(">", "&gt;")
    assert f"<td>{shown}</td>" in page


def test_a_card_of_many_classes_fits_into_a_description(digits: DatasetInfo) -> None:
    classes = tuple(f"class {number}" for number in range(200))
    many = candidate(digits.model_copy(update={"classes": classes}))
    assert len(model_card(many, report(classes))) > LONGEST
    short = short_card(many, report(classes))
    assert len(short) <= LONGEST
    assert "How to load it" in short
    assert LINE in short
