import io
import statistics

import numpy as np
import pytest
from PIL import Image

from tests.tracking.recorder import evaluation, report, summary
from tuner.tracking.runs.exports import optimization_history, point_figures, points_csv, summary_csv
from tuner.tracking.runs.figures import (
    ConfusionFigure,
    CurvesFigure,
    HistoryFigure,
    ImageGroup,
    ImagesFigure,
    ImportanceFigure,
)
from tuner.tracking.spool.spool_events import TrialSummary


def size(png: bytes) -> tuple[int, int]:
    with Image.open(io.BytesIO(png)) as image:
        assert image.format == "PNG"
        return image.size


def test_curves_show_every_epoch_and_the_best_one() -> None:
    epochs = [report(number) for number in range(1, 4)]
    assert size(CurvesFigure(epochs, 2, "trial 0").png())[0] > 800
    assert CurvesFigure(epochs, 2, "trial 0").png() == CurvesFigure(epochs, 2, "trial 0").png()
    assert CurvesFigure(epochs, 2, "trial 0").png() != CurvesFigure(epochs, None, "trial 0").png()
    assert CurvesFigure(epochs, 2, "trial 0").png() != CurvesFigure(epochs[:2], 2, "trial 0").png()


def test_a_diverged_epoch_leaves_a_gap() -> None:
    epochs = [report(1), report(2, float("nan"))]
    assert CurvesFigure(epochs, 1, "trial 0").png() != CurvesFigure(epochs[:1], 1, "trial 0").png()


@pytest.mark.parametrize("count", [1, 3, 20, 21, 100])
def test_confusion_matrices_of_any_size_are_drawn(count: int) -> None:
    labels = [f"class {number}" for number in range(count)]
    assert size(ConfusionFigure(evaluation(*labels), "trial 0").png())[0] > 300


def test_labels_are_never_taken_for_formulas() -> None:
    assert size(ConfusionFigure(evaluation("$x", "y$"), "cost $1 or $2$").png())


def history(*trials: TrialSummary) -> bytes:
    told = optimization_history(trials, "maximize", seeds=1)
    return HistoryFigure(trials, told, "val_accuracy").png()


def test_history_tells_states_apart() -> None:
    completed = history(summary(0), summary(1))
    pruned = history(summary(0), summary(1, "pruned"))
    failed = history(summary(0), summary(1, "failed", None))
    assert len({completed, pruned, failed}) == 3


def test_a_study_without_trials_has_an_empty_history() -> None:
    assert size(history())


def test_only_completed_trials_can_be_the_best() -> None:
    trials = [summary(2, "completed", 0.8), summary(0, "completed", 0.7), summary(1, "pruned", 0.9)]
    points = optimization_history(trials, "maximize", seeds=1)
    assert [(point.number, point.best) for point in points] == [(0, 0.7), (1, 0.7), (2, 0.8)]


def test_the_history_of_several_seeds_is_of_means() -> None:
    values = (0.9, 0.99, 0.6, 0.95, 0.97, 0.96)
    trials = [summary(number, "completed", value) for number, value in enumerate(values)]
    trials[2] = summary(2, "pruned", 0.1)
    history = optimization_history(trials, "maximize", seeds=2)
    assert [point.best for point in history] == pytest.approx(
        [None, 0.945, 0.945, 0.945, 0.945, 0.965]
    )
    columns = summary_csv(trials, seeds=2).splitlines()
    assert columns[0].startswith("number,slot,point,state,")
    assert columns[4].startswith("3,3,1,completed,")
    points = [line.split(",") for line in points_csv(trials, "maximize", seeds=2).splitlines()]
    assert points[0][0] == "point"
    assert [(line[0], float(line[-4]), line[-2:]) for line in points[1:]] == [
        ("2", pytest.approx(0.965), ["2", "4 5"]),
        ("0", pytest.approx(0.945), ["2", "0 1"]),
        ("1", 0.95, ["1", "3"]),
    ]
    assert float(points[1][-3]) == pytest.approx(statistics.stdev(values[4:]))
    assert points[3][-3] == "", "one training has no spread"


def test_of_equal_points_the_one_tried_first_is_best_as_in_the_database() -> None:
    second, first = summary(0, value=0.9), summary(1, value=0.9)
    trials = [first.model_copy(update={"number": 0}), second.model_copy(update={"number": 1})]
    assert [each.point for each in point_figures(trials, "maximize", seeds=1)] == [1, 0]


def test_one_bar_a_parameter() -> None:
    one = ImportanceFigure({"a": 1.0})
    three = ImportanceFigure({"a": 0.5, "b": 0.5, "c": 0.0})
    assert size(three.png())[1] > size(one.png())[1]


@pytest.mark.parametrize("shape", [(8, 8, 1), (20, 10, 3), (9, 30, 4)])
@pytest.mark.parametrize("pixels", ["uint8", "float32"])
def test_images_of_any_form_are_drawn_in_groups(shape: tuple[int, int, int], pixels: str) -> None:
    images = np.random.default_rng(0).integers(0, 2, (11, *shape)).astype(pixels)

    def drawn(*counts: int) -> bytes:
        groups = [
            ImageGroup("$1 is right", images[:count], ["a very long name of a class\n$"] * count)
            for count in counts
        ]
        return ImagesFigure(groups, "a $study").png()

    width, height = size(drawn(3))
    assert size(drawn(11))[0] == width
    assert height < size(drawn(11))[1] < size(drawn(11, 3))[1]
    assert drawn(3) == drawn(3) != drawn(2)
