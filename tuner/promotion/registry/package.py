"""Packs a network as an MLflow model that takes raw pixels from 0 to 255.

The trial's network is packed behind a layer that scales pixels as its training did, so that a
server of the model needs no scale. The packed `data/model.keras` is the given file byte for byte,
so that its hash stays valid up to the prediction.
"""

import importlib
import re
import shutil
import warnings
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from tuner.spec.recipe import Pixels, scale

if TYPE_CHECKING:
    import keras
    from mlflow import MlflowClient
    from mlflow.models import Model, ModelSignature

_FORBIDDEN = re.compile(r"[/:.%\"']")
"""Characters that a logged model's name must not have, though a registered model's may."""

PACKED_FILE = "data/model.keras"
"""The path of the model inside the package of `mlflow.keras`."""


def servable(
    model: "keras.Model", image_shape: tuple[int, int, int], pixels: Pixels
) -> "keras.Model":
    """The network with raw pixels in [0, 255] as its input, with the same weights.

    Args:
        model: the trial's network.
        image_shape: height, width, channels.
        pixels: the range of the network's own input.
    """
    import keras

    raw = keras.Input(image_shape, dtype="float32", name="pixels")
    scaled = raw
    if pixels == "unit":
        scaled = keras.layers.Rescaling(scale(pixels, "uint8"), dtype="float32")(raw)
    return keras.Model(raw, model(scaled), name="servable")


@dataclass(frozen=True)
class _VerbatimKeras:
    """MLflow's Keras flavor, except that the model file is copied, not saved again."""

    file: Path

    def save_model(self, path: str, mlflow_model: "Model", **options: Any) -> None:
        """Writes the package; `Model.log` calls this with its own arguments."""
        del options["validate_serving_input"]  # meant for `Model.log` alone
        import mlflow

        with warnings.catch_warnings():  # MLflow warns of its own type hints on first import
            warnings.filterwarnings("ignore", ".*Any type hint is inferred", UserWarning)
            importlib.import_module("mlflow.pyfunc")
        Path(path).mkdir()  # MLflow 3.17 writes the example before it makes the folder
        mlflow.keras.save_model(self, path, mlflow_model=mlflow_model, **options)

    def save(self, path: str) -> None:
        """Copies the file; `mlflow.keras` calls this to save the model."""
        shutil.copyfile(self.file, path)


def log_package(
    client: "MlflowClient",
    run_id: str,
    name: str,
    model_file: Path,
    example: NDArray[np.uint8],
    classes: int,
) -> str:
    """Logs the model as an output of its trial's run; the run's status and times stay.

    Args:
        client: connected to the store that is MLflow's default at the moment.
        run_id: the trial's run.
        name: the logged model's name; characters that MLflow refuses become dashes.
        model_file: the saved file of what `servable` made.
        example: one input, shape (1, height, width, channels).
        classes: the number of classes.

    Returns:
        The logged model's id.
    """
    import mlflow
    from mlflow.models import Model

    experiment_id = client.get_run(run_id).info.experiment_id
    name = _FORBIDDEN.sub("-", name)
    logged = mlflow.initialize_logged_model(name, source_run_id=run_id, experiment_id=experiment_id)
    Model.log(
        artifact_path=None,
        name=name,
        flavor=_VerbatimKeras(model_file),
        model_id=logged.model_id,
        run_id=run_id,
        signature=_signature(example, classes),
        input_example=example,
        pip_requirements=requirements(),
        validate_serving_input=False,
    )
    return str(logged.model_id)


def requirements() -> list[str]:
    """The packages that loading the model needs, at the versions installed here."""
    import keras

    packages = ("keras", keras.backend.backend(), "numpy")
    return [f"{package}=={version(package)}" for package in packages]


def _signature(example: NDArray[np.uint8], classes: int) -> "ModelSignature":
    from mlflow.models import ModelSignature
    from mlflow.types import Schema, TensorSpec

    probabilities: np.dtype[Any] = np.dtype(np.float32)
    return ModelSignature(
        inputs=Schema([TensorSpec(example.dtype, (-1, *example.shape[1:]))]),
        outputs=Schema([TensorSpec(probabilities, (-1, classes))]),
    )
