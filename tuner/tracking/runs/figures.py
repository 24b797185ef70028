"""Figures as data, which are drawn when they are needed, in this or another process.

The modules that draw are imported only then, since matplotlib costs a second and 60 MB.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from numpy.typing import NDArray

from tuner.tracking.runs.exports import TrialPoint
from tuner.tracking.spool.spool_events import Missed, TrialSummary
from tuner.training.plan import EpochReport, Evaluation


class Figure(Protocol):
    """A figure that can be drawn."""

    def png(self) -> bytes:
        """The figure as PNG, with the same bytes every time."""
        ...


@dataclass(frozen=True)
class CurvesFigure:
    """Accuracy and loss over epochs side by side, training and validation, best marked."""

    epochs: Sequence[EpochReport]
    best_epoch: int | None
    title: str

    def png(self) -> bytes:
        """The figure as PNG, with the same bytes every time."""
        from tuner.tracking.runs.attempt_drawing import draw_curves

        return draw_curves(self)


@dataclass(frozen=True)
class ConfusionFigure:
    """The confusion matrix: colour is the share of the true class, numbers are images."""

    evaluation: Evaluation
    title: str
    rows: str = "validation"
    """Which rows of the data were predicted."""

    def png(self) -> bytes:
        """The figure as PNG, with the same bytes every time."""
        from tuner.tracking.runs.attempt_drawing import draw_confusion

        return draw_confusion(self)


@dataclass(frozen=True)
class ImageGroup:
    """Images with one thing in common."""

    title: str
    images: NDArray[Any]
    """uint8 in [0, 255] or float in [0, 1], of shape (N, H, W, C)."""
    captions: Sequence[str]
    """Up to three lines for each image."""


@dataclass(frozen=True)
class ImagesFigure:
    """Groups of images with their captions, one group below the other."""

    groups: Sequence[ImageGroup]
    title: str

    def png(self) -> bytes:
        """The figure as PNG, with the same bytes every time."""
        from tuner.tracking.runs.image_drawing import draw_images

        return draw_images(self)


@dataclass(frozen=True)
class MissedFigure:
    """The images that every good training of a confirmation missed, the first ones."""

    missed: Missed
    study: str

    def png(self) -> bytes:
        """The figure as PNG, with the same bytes every time.

        Raises:
            DataError: the images cannot be read.
        """
        from tuner.tracking.runs.image_drawing import draw_missed

        return draw_missed(self)


@dataclass(frozen=True)
class HistoryFigure:
    """Every trial's value and the best point's mean so far. Markers show the states."""

    trials: Sequence[TrialSummary]
    history: Sequence[TrialPoint]
    metric: str

    def png(self) -> bytes:
        """The figure as PNG, with the same bytes every time."""
        from tuner.tracking.runs.study_drawing import draw_history

        return draw_history(self)


@dataclass(frozen=True)
class ImportanceFigure:
    """One bar for each parameter, the most important on top."""

    importance: Mapping[str, float]

    def png(self) -> bytes:
        """The figure as PNG, with the same bytes every time."""
        from tuner.tracking.runs.study_drawing import draw_importance

        return draw_importance(self)
