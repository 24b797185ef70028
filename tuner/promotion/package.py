"""Packs a verified model file as an MLflow model: signature, example, requirements.

The packed `data/model.keras` is the verified file byte for byte and not a second saving of
the model, so that one hash holds from the trial to whoever predicts.
"""

import importlib
import shutil
import warnings
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.models import Model, ModelSignature

PACKED_FILE = "data/model.keras"
"""Where `mlflow.keras` keeps the model inside its package."""


@dataclass(frozen=True)
class _VerbatimKeras:
    """MLflow's Keras flavor, but for the model file, which is copied and not saved again."""

    file: Path

    def save_model(self, path: str, mlflow_model: "Model", **options: Any) -> None:
        """Writes the package; called by `Model.log` with what it was called with itself."""
        del options["validate_serving_input"]  # meant for `Model.log` alone
        import mlflow

        with warnings.catch_warnings():  # MLflow warns of its own type hints on first import
            warnings.filterwarnings("ignore", ".*Any type hint is inferred", UserWarning)
            importlib.import_module("mlflow.pyfunc")
        Path(path).mkdir()  # MLflow 3.17 writes the example before it makes the folder
        mlflow.keras.save_model(self, path, mlflow_model=mlflow_model, **options)

    def save(self, path: str) -> None:
        """What `mlflow.keras` asks of the model that it saves."""
        shutil.copyfile(self.file, path)


def log_package(
    client: "MlflowClient",
    run_id: str,
    name: str,
    model_file: Path,
    example: NDArray[np.float32],
    classes: int,
) -> str:
    """Logs the model as an output of its trial's run; the run's status and times stay.

    Args:
        client: connected to the store that is MLflow's default at the moment.
        run_id: the trial's run.
        name: of the logged model.
        model_file: the verified file.
        example: one input, shape (1, height, width, channels).
        classes: width of the output.

    Returns:
        The logged model's id.
    """
    import mlflow
    from mlflow.models import Model

    experiment_id = client.get_run(run_id).info.experiment_id
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
    """What loading the model takes, at the versions installed here."""
    import keras

    packages = ("keras", keras.backend.backend(), "numpy")
    return [f"{package}=={version(package)}" for package in packages]


def _signature(example: NDArray[np.float32], classes: int) -> "ModelSignature":
    from mlflow.models import ModelSignature
    from mlflow.types import Schema, TensorSpec

    pixels: np.dtype[Any] = np.dtype(np.float32)
    return ModelSignature(
        inputs=Schema([TensorSpec(pixels, (-1, *example.shape[1:]))]),
        outputs=Schema([TensorSpec(pixels, (-1, classes))]),
    )
