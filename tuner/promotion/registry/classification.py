"""Classifies pictures with the champion, the promoted model."""

from pathlib import Path

from tuner.datasets.pictures.picture_files import read
from tuner.home import Home
from tuner.promotion.registry.champion import load_champion, open_champion
from tuner.spec.section import Frozen
from tuner.tracking.settings import TrackingSettings

_TRUST = (
    "the study that trained it is not in this database, so that the registry is trusted to have "
    "the file, the classes and the way to read pictures as they were promoted"
)


class Classification(Frozen):
    """The class that the champion gives a picture, and the probability of every class."""

    image: Path
    label: str
    """The most likely class."""
    probability: float
    probabilities: dict[str, float]


class Classifier:
    """The champion of one registered model, loaded and ready to classify."""

    def __init__(self, settings: TrackingSettings, model: str, home: Home) -> None:
        """Fetches and loads the champion.

        Raises:
            RefusedError: nothing has been promoted under this name.
            ModelError: the version's file is not the recorded one, or not the one that its study
                has registered.
            UnavailableError: MLflow or the database does not answer, or the home cannot be made.
        """
        home.create()  # readable by its owner alone, before MLflow's store is made in it
        self._champion = load_champion(settings, model, home)
        self.trust = "" if self._champion.is_vouched_for else _TRUST
        """A warning if only the registry vouches for the champion; empty if the database does."""
        self._predictor = open_champion(self._champion, home)

    @property
    def name(self) -> str:
        """The name of the registered model."""
        return self._champion.model

    @property
    def version(self) -> int:
        """The champion's version."""
        return self._champion.version

    def classify(self, image: Path) -> Classification:
        """Classifies the picture in a file.

        Raises:
            DataError: the file is no picture, or a data set of drawings finds no drawing in it.
        """
        shown = self._predictor.predict_one(read(image, self._champion.transform))
        by_label = {
            label: float(share) for label, share in zip(self._champion.classes, shown, strict=True)
        }
        label = max(by_label, key=lambda each: by_label[each])
        return Classification(
            image=image, label=label, probability=by_label[label], probabilities=by_label
        )
