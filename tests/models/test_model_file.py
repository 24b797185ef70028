"""Files that are refused before Keras sees them, and those that Keras refuses."""

import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from tuner.errors import ExitCode, ModelError
from tuner.models.model_file import load_verified, sha256_of

# Keras reads TensorFlow's variables in a way that NumPy 2 deprecates.


def without(path: Path, source: Path, member: str) -> Path:
    """A copy of an archive without one member."""
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(path, "w") as new:
        for name in old.namelist():
            if name != member:
                new.writestr(name, old.read(name))
    return path


def with_config(path: Path, source: Path, config: str) -> Path:
    """A copy of an archive with another `config.json`."""
    without(path, source, "config.json")
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("config.json", config)
    return path


def written(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


def lambda_model(path: Path) -> Path:
    import keras

    model = keras.Sequential([keras.Input((4,)), keras.layers.Lambda(lambda x: x * 2)])
    model.save(path)
    return path


def own_layer_model(path: Path) -> Path:
    import keras

    class Doubling(keras.layers.Layer):  # type: ignore[misc]
        def call(self, inputs: object) -> object:
            return inputs

    keras.Sequential([keras.Input((4,)), Doubling()]).save(path)
    return path


def test_a_flipped_byte_is_refused_and_both_hashes_are_named(
    model_file: Path, damaged: Path
) -> None:
    recorded, found = sha256_of(model_file), sha256_of(damaged)
    with pytest.raises(ModelError) as refused:
        load_verified(damaged, recorded)
    assert recorded in str(refused.value)
    assert found in str(refused.value)
    assert refused.value.exit_code == ExitCode.DATA_OR_MODEL


Maker = Callable[[Path, Path], Path]


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda path, _: written(path / "m.h5", b"\x89HDF"), "must be a .keras file, got .h5"),
        (lambda path, _: path, "got a folder"),
        (lambda path, _: path / "none.keras", "there is no such file"),
        (lambda path, _: written(path / "m.keras", b""), "is empty"),
        (lambda path, _: written(path / "m.keras", b"a model"), "is no .keras archive"),
        (
            lambda path, good: written(path / "m.keras", good.read_bytes()[:-500]),
            "is no .keras archive",
        ),
        (
            lambda path, good: without(path / "m.keras", good, "config.json"),
            "must hold config.json, got",
        ),
        (
            lambda path, good: without(path / "m.keras", good, "model.weights.h5"),
            "Keras does not load it: Expected a model.weights.h5",
        ),
        (
            lambda path, good: with_config(path / "m.keras", good, '{"a": 1}'),
            "Keras does not load it: Expected object to be an instance",
        ),
        (lambda path, good: with_config(path / "m.keras", good, "{"), "Keras does not load it"),
        (lambda path, _: lambda_model(path / "m.keras"), "`Lambda` layer"),
        (lambda path, _: own_layer_model(path / "m.keras"), "Could not locate class 'Doubling'"),
    ],
    ids=[
        "h5",
        "folder",
        "missing",
        "empty",
        "text",
        "truncated",
        "no-config",
        "no-weights",
        "no-model-in-config",
        "broken-config",
        "lambda",
        "unknown-class",
    ],
)
def test_a_wrong_file_is_refused_in_one_line(
    make: Maker, reason: str, model_file: Path, tmp_path: Path
) -> None:
    path = make(tmp_path, model_file)
    with pytest.raises(ModelError) as refused:
        load_verified(path, sha256_of(path) if path.is_file() else "")
    message = str(refused.value)
    assert message.startswith(f"{path}: ")
    assert reason in message
    assert "\n" not in message
    assert "safe_mode=False" not in message
