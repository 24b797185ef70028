"""Compares the candidate with the champion on the same test rows, before it replaces it."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from pydantic import computed_field

from tuner.datasets.store import DatasetInfo, read_arrays
from tuner.errors import ModelError
from tuner.home import Home
from tuner.inference.predictor import Predictor
from tuner.promotion.judging.evidence import HeldOut
from tuner.promotion.judging.reproduction import agree
from tuner.promotion.registry.champion import Champion, load_champion, open_champion
from tuner.spec.section import Frozen
from tuner.tracking.settings import TrackingSettings
from tuner.training.rounding import undecided

MARGIN = 0.002
"""The share of the test rows by which a candidate may be worse than the champion."""


class Comparison(Frozen):
    """The test accuracy of the champion and its difference to the candidate's."""

    version: int
    """The champion's version."""
    study: str
    trial: int
    test_accuracy: float
    """The champion's test accuracy."""
    difference: float
    """The candidate's test accuracy minus the champion's."""

    @computed_field  # type: ignore[prop-decorator]
    @property
    def passed(self) -> bool:
        """Whether the candidate is not worse by more than the margin."""
        return self.difference >= -MARGIN


@dataclass(frozen=True)
class Incumbent:
    """A champion that can be compared with a candidate."""

    champion: Champion
    accuracy: Callable[[], float]
    """Its accuracy on the candidate's test rows; opens them unless an earlier access told it."""

    def compare(self, accuracy: float) -> Comparison:
        """Compares a candidate with this test accuracy with the champion."""
        own = self.accuracy()
        return Comparison(
            version=self.champion.version,
            study=self.champion.study,
            trial=self.champion.trial,
            test_accuracy=own,
            # Rounded, so that 0.988 - 0.99 is -0.002 and not -0.0020000000000000018.
            difference=round(accuracy - own, 12),
        )


def find_incumbent(settings: TrackingSettings, name: str, rows: HeldOut, home: Home) -> Incumbent:
    """The champion of a registered model, checked to fit these test rows; does not open them.

    Raises:
        RefusedError: nothing has been promoted under this name.
        ModelError: it cannot be compared: tuner or its study did not register it, its file is not
            the recorded one, Keras does not load it, it is for other pictures or classes, or its
            accuracy on the training rows is not that of its promotion.
    """
    champion = load_champion(settings, name, home)
    _check_fit(champion, rows.dataset)
    known = rows.known_accuracy(champion.trial_sha256)
    if known is not None:
        return Incumbent(champion, lambda: known)
    predictor = open_champion(champion, home)
    _check_same(champion, predictor, rows.dataset)
    return Incumbent(champion, lambda: rows.score(predictor, champion.trial_sha256).accuracy)


def _check_fit(champion: Champion, dataset: DatasetInfo) -> None:
    for what, its, ours in (
        ("images of", champion.transform.image_shape, dataset.image_shape),
        ("the classes", champion.classes, dataset.classes),
    ):
        if its != ours:
            raise ModelError(f"it is for {what} {its}, the data set {dataset.name} has {ours}")


def _check_same(champion: Champion, predictor: Predictor, dataset: DatasetInfo) -> None:
    """Checks that the champion is the network that was promoted: its own code may have changed."""
    recorded = champion.train_accuracy
    if recorded is None or champion.dataset_digest != dataset.digest:
        return
    images, labels = read_arrays(dataset.train)
    answers = predictor.probabilities(images)
    accuracy = float(np.mean(answers.argmax(axis=1) == labels))
    # Which precision it computes in is not recorded.
    if not agree(accuracy, recorded, len(labels), undecided(answers, "bfloat16")):
        raise ModelError(
            f"it has accuracy {accuracy:.4f} on the training rows here, and had {recorded:.4f} "
            "when it was promoted: its own layers compute otherwise by now"
        )
