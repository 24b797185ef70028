"""Makes MLflow's data set entity from a prepared data set, without opening its arrays."""

import json

from mlflow.entities import Dataset, DatasetInput, InputTag

from tuner.datasets.store import DatasetInfo

DIGEST_LENGTH = 36
"""MLflow's limit. The tag `tuner.dataset_digest` has the whole SHA-256."""


def dataset_input(info: DatasetInfo) -> DatasetInput:
    """Describes the training rows, the only ones that a trial sees."""
    dataset = Dataset(
        name=info.name,
        digest=info.digest[:DIGEST_LENGTH],
        source_type="local",
        source=json.dumps({"uri": str(info.folder), "origin": info.source}),
        schema=json.dumps({"mlflow_tensorspec": _schema(info)}),
        profile=json.dumps(_profile(info)),
    )
    return DatasetInput(dataset, [InputTag("mlflow.data.context", "training")])


def _schema(info: DatasetInfo) -> dict[str, str]:
    """The schema as MLflow's UI reads it; -1 is any number of rows."""
    images = {"dtype": info.pixel_type, "shape": [-1, *info.image_shape]}
    labels = {"dtype": "int64", "shape": [-1]}
    return {
        "features": json.dumps([{"type": "tensor", "name": "images", "tensor-spec": images}]),
        "targets": json.dumps([{"type": "tensor", "name": "labels", "tensor-spec": labels}]),
    }


def _profile(info: DatasetInfo) -> dict[str, object]:
    return {
        "features_shape": [info.train_count, *info.image_shape],
        "targets_shape": [info.train_count],
        "train_count": info.train_count,
        "test_count": info.test_count,
        "classes": list(info.classes),
    }
