"""Compares the candidate with the champion on the same test rows, before it replaces it."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from pydantic import computed_field

from tuner.datasets.store import DatasetInfo, read_arrays
from tuner.errors import ModelError
from tuner.home import Home
from tuner.inference.predictor import Predictor
from tuner.promotion.gates import LEVEL
from tuner.promotion.judging.evidence import Answers, HeldOut
from tuner.promotion.judging.reproduction import agree
from tuner.promotion.registry.champion import Champion, load_champion, open_champion
from tuner.spec.section import Frozen
from tuner.statistics import Interval, PairedShares, holm, paired_shares
from tuner.tracking.settings import TrackingSettings
from tuner.training.rounding import undecided

Right = Literal["candidate", "champion", "neither"]


class Disagreement(Frozen):
    """A test image that the two models put into different classes."""

    row: int
    """Its index among the test images."""
    label: str
    """Its true class."""
    candidate: str
    champion: str

    @property
    def right(self) -> Right:
        """Which of them is right."""
        answers: dict[str, Right] = {self.candidate: "candidate", self.champion: "champion"}
        return answers.get(self.label, "neither")


class RecallChange(Frozen):
    """The recalls of one class that the test set has."""

    label: str
    images: int
    candidate: float
    champion: float
    p_value: float
    """Two-sided, of McNemar's exact test on the class's images."""


class ChampionComparison(Frozen):
    """The candidate's and the champion's answers to the same test rows."""

    version: int
    """The champion's version."""
    study: str
    trial: int
    rows: PairedShares
    """The rows by who has them right; `first` is the candidate, `second` the champion."""
    recalls: tuple[RecallChange, ...]
    disagreements: tuple[Disagreement, ...]

    @computed_field  # type: ignore[prop-decorator]
    @property
    def test_accuracy(self) -> float:
        """The champion's test accuracy."""
        return (self.rows.both + self.rows.second) / self.rows.rows

    @computed_field  # type: ignore[prop-decorator]
    @property
    def difference(self) -> float:
        """The candidate's test accuracy minus the champion's."""
        return self.rows.difference

    @property
    def interval(self) -> Interval:
        """Newcombe's 95% interval of the difference."""
        return self.rows.interval()

    @property
    def detectable(self) -> float:
        """The smallest true difference that these rows show in four of five cases, at 95%."""
        return self.rows.detectable()

    @property
    def metrics(self) -> dict[str, float]:
        """The figures by their names in JSON and MLflow."""
        return {
            "champion_accuracy": self.test_accuracy,
            "champion_difference": self.difference,
            "champion_difference_low": self.interval.low,
            "champion_difference_high": self.interval.high,
            "champion_p_value": self.rows.p_value,
            "champion_p_better": self.rows.p_better,
            "champion_possible_loss": -self.rows.interval(2 * LEVEL).low,
            "champion_detectable": self.detectable,
        }

    @property
    def changed_recalls(self) -> tuple[RecallChange, ...]:
        """The classes whose recall has changed by more than chance: Holm's procedure, at 5%."""
        p_values = {change.label: change.p_value for change in self.recalls}
        changed = holm(p_values, LEVEL)[1]
        return tuple(change for change in self.recalls if change.label in changed)


@dataclass(frozen=True)
class Incumbent:
    """A champion that can be compared with a candidate."""

    champion: Champion
    answers: Callable[[], Answers]
    """Its answers to the candidate's test rows, which this opens."""

    def compare(self, ours: Answers) -> ChampionComparison:
        """Compares a candidate's answers to the test rows with the champion's."""
        theirs = self.answers()
        return ChampionComparison(
            version=self.champion.version,
            study=self.champion.study,
            trial=self.champion.trial,
            rows=paired_shares(ours.right, theirs.right),
            recalls=tuple(_recalls(ours, theirs, self.champion.classes)),
            disagreements=tuple(_disagreements(ours, theirs, self.champion.classes)),
        )


def _recalls(ours: Answers, theirs: Answers, classes: Sequence[str]) -> Iterator[RecallChange]:
    for number in np.unique(ours.labels):
        of_class = ours.labels == number
        rows = paired_shares(ours.right[of_class], theirs.right[of_class])
        yield RecallChange(
            label=classes[number],
            images=rows.rows,
            candidate=(rows.both + rows.first) / rows.rows,
            champion=(rows.both + rows.second) / rows.rows,
            p_value=rows.p_value,
        )


def _disagreements(
    ours: Answers, theirs: Answers, classes: Sequence[str]
) -> Iterator[Disagreement]:
    for row in np.flatnonzero(ours.predicted != theirs.predicted):
        label, candidate, champion = (
            classes[each[row]] for each in (ours.labels, ours.predicted, theirs.predicted)
        )
        yield Disagreement(row=int(row), label=label, candidate=candidate, champion=champion)


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
    predictor = open_champion(champion, home)
    _check_same(champion, predictor, rows.dataset)
    return Incumbent(champion, lambda: rows.answers(predictor, champion.trial_sha256))


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
