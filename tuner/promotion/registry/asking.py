"""Asks the champion what a picture shows."""

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


class Answer(Frozen):
    """What the champion sees in one picture."""

    image: Path
    label: str
    """The most likely class."""
    probability: float
    probabilities: dict[str, float]


class Asking:
    """The champion of one registered model, loaded and ready."""

    def __init__(self, settings: TrackingSettings, model: str, home: Home) -> None:
        """Fetches and loads the champion.

        Raises:
            RefusedError: nothing has been promoted under this name.
            ModelError: the version's file is not the recorded one, or not the one that its study
                has registered.
            UnavailableError: MLflow or the database does not answer, or the home cannot be made.
        """
        home.create()  # for its owner alone, before MLflow's store is made in it
        self._champion = load_champion(settings, model, home)
        self.trust = "" if self._champion.is_vouched_for else _TRUST
        """What is believed of the champion on the registry's word alone; empty where nothing is."""
        self._predictor = open_champion(self._champion, home)

    @property
    def name(self) -> str:
        """The registered model."""
        return self._champion.model

    @property
    def version(self) -> int:
        """The champion's version."""
        return self._champion.version

    def ask(self, image: Path) -> Answer:
        """What the picture shows.

        Raises:
            DataError: the file is no picture, or shows nothing that is drawn where that is asked.
        """
        shown = self._predictor.predict_one(read(image, self._champion.transform))
        by_label = {
            label: float(share) for label, share in zip(self._champion.classes, shown, strict=True)
        }
        label = max(by_label, key=lambda each: by_label[each])
        return Answer(image=image, label=label, probability=by_label[label], probabilities=by_label)
