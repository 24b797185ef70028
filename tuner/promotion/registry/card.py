"""The model card: what a registered model is, why it was chosen, how good it is, how to load it."""

import base64
from collections.abc import Callable, Iterator, Sequence

from tuner.promotion.candidate import Candidate, Grounds
from tuner.promotion.judging.evidence import Evidence
from tuner.promotion.registry.versions import ALIAS, CHALLENGER, Alias
from tuner.promotion.report import PromotionReport
from tuner.study.confirmation.missed import confused_pairs
from tuner.training.plan import ClassScores, Evaluation
from tuner.words import count, plain

LONGEST = 5000
"""The longest description of a version that MLflow's registry stores."""
_MOST_PAIRS = 3
_MOST_MISSED = 10
_STYLE = (
    "body{font:16px/1.5 system-ui,sans-serif;max-width:46rem;margin:2rem auto;padding:0 1rem;"
    "color-scheme:light dark;overflow-wrap:break-word}"
    "table{display:block;overflow-x:auto;border-collapse:collapse;margin:1rem 0}"
    "td,th{padding:.2rem .8rem;border-bottom:1px solid #8884;text-align:left}"
    "code,pre{font-family:ui-monospace,monospace}"
    "pre{padding:.8rem;border:1px solid #8884;overflow-x:auto}img{max-width:100%}"
)


Rows = Callable[[Sequence[str], Sequence[Sequence[str]]], Iterator[str]]
"""Writes a head and rows as Markdown."""


def model_card(candidate: Candidate, report: PromotionReport) -> str:
    """Returns the card as Markdown. It has no picture."""
    title = [f"# {plain(candidate.promotion.model)}", ""]
    return "\n".join([*title, *_body(candidate, report, _table)])


def short_card(candidate: Candidate, report: PromotionReport) -> str:
    """Returns the card as the description of a version, which MLflow shows below the model's name.

    It begins with a sentence, since the list of versions shows that much as plain text, and has
    lists for tables, which MLflow draws without lines. Without the longest lists if they would not
    fit.
    """
    whole = "\n".join(_body(candidate, report, _list))
    if len(whole) <= LONGEST:
        return whole
    return "\n".join(_body(candidate, report, _list, whole=False))[:LONGEST]


def _body(
    candidate: Candidate, report: PromotionReport, rows: Rows, *, whole: bool = True
) -> Iterator[str]:
    """Yields the card's lines without its title, and on request without the longest tables."""
    evidence = _evidence(report)
    yield from _head(candidate)
    yield from _quality(evidence, report, rows)
    if whole:
        yield from _per_class(evidence.test, rows)
        yield from _missed(candidate.grounds, rows)
    yield from _limits(candidate, evidence)
    yield from _loading(report)


def as_html(card: str, title: str, confusion_matrix: bytes) -> str:
    """Returns a card as one self-contained page.

    Args:
        card: the Markdown.
        title: the page's title.
        confusion_matrix: a PNG of the confusion matrix on the test set.
    """
    from html import escape

    from markdown_it import MarkdownIt

    body = MarkdownIt("commonmark", {"html": False}).enable("table").render(card)
    picture = base64.b64encode(confusion_matrix).decode()
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{escape(title)}'
        f"</title><style>{_STYLE}</style></head><body>{body}"
        '<h2>Confusion matrix</h2><img alt="Confusion matrix on the test set" '
        f'src="data:image/png;base64,{picture}"></body></html>\n'
    )


def _evidence(report: PromotionReport) -> Evidence:
    assert report.evidence is not None, "a card is written once the test set was opened"
    return report.evidence


def _head(candidate: Candidate) -> Iterator[str]:
    grounds, data = candidate.grounds, candidate.dataset
    height, width, channels = data.image_shape
    yield (
        f"Classifies images of {height} x {width} pixels with {channels} channel"
        f"{'s' * (channels > 1)} into {len(data.classes)} classes: "
        f"{plain(', '.join(data.classes))}."
    )
    yield ""
    yield "## Training"
    yield ""
    trained = f"trial {candidate.number} of {candidate.study}"
    if grounds is not None:
        trained = f"point {grounds.point} of study {grounds.study}, {trained}"
    yield f"- Trained as {plain(trained)}."
    if grounds is not None and grounds.refit:
        yield "- Trained again on all training images, those for validation too (refit)."
    yield f"- Network: `{candidate.model.name}`, on {candidate.backend} in {candidate.precision}."
    params = ", ".join(f"`{name}={value}`" for name, value in sorted(candidate.params.items()))
    yield f"- Parameters: {params or 'none'}."
    yield (
        f"- Data: {plain(data.name)}, {data.train_count:,} training and {data.test_count:,} test "
        f"images, from {plain(data.source)}, SHA-256 `{data.digest}`."
    )
    yield ""
    if grounds is not None:
        yield "## Why this one"
        yield ""
        yield from (f"- {plain(line)}" for line in grounds.lines)
        yield ""


def _quality(evidence: Evidence, report: PromotionReport, rows: Rows) -> Iterator[str]:
    test, interval = evidence.test, evidence.interval
    yield "## On the test set"
    yield ""
    yield (
        f"Accuracy **{test.accuracy:.4f}** (95% interval {interval.low:.4f} to "
        f"{interval.high:.4f}, {evidence.test_count:,} images), macro F1 {test.macro.f1:.4f}, loss "
        f"{test.loss:.4f}. On the training images the accuracy is {evidence.train_accuracy:.4f}. "
        f"One image takes {evidence.latency.p50_ms:.2g} ms, 95 of 100 take at most "
        f"{evidence.latency.p95_ms:.2g} ms, on one processor thread. The network has "
        f"{evidence.parameters:,} parameters, {evidence.model_mb:.2f} MB."
    )
    yield ""
    if (champion := report.champion) is not None:
        interval = champion.interval
        before = "" if report.challenger else " before"
        yield (
            f"On the same images the champion{before}, version {champion.version}, has "
            f"{champion.test_accuracy:.4f}: a difference of {champion.difference:+.4f} (95% "
            f"interval {interval.low:+.4f} to {interval.high:+.4f})."
        )
        yield ""
    if report.gates:
        yield from rows(
            ("gate", "value", "limit", ""),
            [
                (
                    gate.name,
                    f"{gate.value:.4g}",
                    f"{gate.limit:.4g}",
                    "passed" if gate.passed else "waived",
                )
                for gate in report.gates
            ],
        )


def _per_class(test: Evaluation, rows: Rows) -> Iterator[str]:
    classes = [
        (
            plain(each.label),
            *(f"{value:.4f}" for value in (each.precision, each.recall, each.f1)),
            str(each.support),
        )
        for each in test.classes
    ]
    yield from rows(("class", "precision", "recall", "F1", "images"), classes)


def _missed(grounds: Grounds | None, rows: Rows) -> Iterator[str]:
    """What the confirmation's trainings agree on against the labels, if that is known."""
    if grounds is None or grounds.missed is None:
        return
    found = grounds.missed
    yield "## Images that every training missed"
    yield ""
    many = count(len(found), "training image")
    yield (
        f"Every good training of {plain(grounds.confirmation or '')} that was validated on them "
        f"put {many} into another class than the label's with confidence: probable label errors, "
        "or classes that look alike."
    )
    yield ""
    if not found:
        return
    pairs = confused_pairs(found)[:_MOST_PAIRS]
    yield "Most often: " + "; ".join(_taken(*pair) for pair in pairs) + "."
    yield ""
    yield from rows(
        ("row", "file", "label", "predicted", "trainings", "probability"),
        [
            (
                str(each.row),
                plain(each.file),
                plain(each.label),
                plain(each.predicted),
                f"{each.agreeing} of {each.trainings}",
                f"{each.probability:.4f}",
            )
            for each in found[:_MOST_MISSED]
        ],
    )


def _limits(candidate: Candidate, evidence: Evidence) -> Iterator[str]:
    test = evidence.test
    yield "## Limits"
    yield ""
    present = [each for each in test.classes if each.support]
    worst: ClassScores = min(present, key=lambda each: each.recall)
    yield f"- The class it finds least often is {plain(worst.label)}: recall {worst.recall:.4f}."
    if pairs := "; ".join(_confused(test)):
        yield f"- Most often confused: {pairs}."
    yield (
        f"- All figures are of images like those of {plain(candidate.dataset.name)}. Other "
        "pictures are classified too, as one of its classes."
    )
    yield ""


def _confused(test: Evaluation) -> Iterator[str]:
    """Yields the pairs of classes that are confused most often."""
    labels = [each.label for each in test.classes]
    pairs = [
        (images, true, predicted)
        for true, row in enumerate(test.confusion)
        for predicted, images in enumerate(row)
        if images and true != predicted
    ]
    for images, true, predicted in sorted(pairs, key=lambda pair: -pair[0])[:_MOST_PAIRS]:
        yield _taken(labels[true], labels[predicted], images)


def _taken(label: str, predicted: str, number: int) -> str:
    return f"{plain(label)} taken for {plain(predicted)} ({number})"


def _loading(report: PromotionReport) -> Iterator[str]:
    alias: Alias = CHALLENGER if report.challenger else ALIAS
    yield "## How to load it"
    yield ""
    yield "It takes pixels from 0 to 255 as they are, and gives class probabilities."
    yield ""
    yield "```python"
    yield "import mlflow"
    yield ""
    yield f'mlflow.keras.load_model("models:/{report.model}@{alias}")'
    yield "```"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    yield f"| {' | '.join(head)} |"
    yield f"|{'---|' * len(head)}"
    yield from (f"| {' | '.join(row)} |" for row in rows)
    yield ""


def _list(head: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    """Yields a list with the first cell of each row, then the others that have a content."""
    yield f"By {head[0]}:"  # so that a list does not go on with the one before
    yield ""
    for row in rows:
        others = (
            f"{name} {cell}".strip() for name, cell in zip(head[1:], row[1:], strict=True) if cell
        )
        yield f"- {row[0]}: {', '.join(others)}"
    yield ""
