"""Prints test-set scores to the terminal."""

from typing import TYPE_CHECKING

from tuner.cli.terminal.terminal_tables import print_table, print_text, score

if TYPE_CHECKING:
    from tuner.training.plan import Evaluation


def print_evaluation(evaluation: "Evaluation") -> None:
    """Prints precision, recall and F1 by class, the absent classes, and the confusion matrix."""
    rows = [
        (each.label, score(each.precision), score(each.recall), score(each.f1), str(each.support))
        for each in (*evaluation.classes, evaluation.macro)
    ]
    print_table(["class", "precision", "recall", "F1", "images"], rows, title="test set")
    if evaluation.absent:
        from tuner.tracking.runs.exports import absent_note

        print_text(absent_note(evaluation.absent))
    labels = [each.label for each in evaluation.classes]
    counts = [
        (label, *map(str, row)) for label, row in zip(labels, evaluation.confusion, strict=True)
    ]
    print_table(["true \\ predicted", *labels], counts, title="confusion matrix")
