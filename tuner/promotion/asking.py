"""Asks the champion what a picture shows."""

from pathlib import Path

from tuner.datasets.pictures import read
from tuner.home import Home
from tuner.models.model_file import load_verified
from tuner.models.registry import register_classes
from tuner.promotion.champion import load_champion
from tuner.promotion.keras_start import start_keras
from tuner.promotion.nomination import find_study
from tuner.promotion.predictor import Predictor
from tuner.spec.search_space import Frozen
from tuner.tracking.settings import TrackingSettings


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

        The classes of a user's own layers come from the code of the study that trained it,
        if that study is in our database: what the registry says is not trusted to be run.

        Raises:
            RefusedError: nothing has been promoted under this name.
            ModelError: the version's file is not the recorded one.
            UnavailableError: MLflow does not answer.
        """
        self._champion = load_champion(settings, model, home.root / "models")
        study = find_study(home, self._champion.study)
        start_keras(home.root, study.spec.backend if study else "tensorflow")
        if study is not None:
            register_classes(study.spec.model, study.code_path)
        loaded = load_verified(self._champion.model_path, self._champion.sha256)
        self._predictor = Predictor(loaded, self._champion.pixels)

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
