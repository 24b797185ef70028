import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tuner.datasets.known_datasets import load
from tuner.datasets.store import DatasetInfo, prepare, read_arrays, read_info
from tuner.datasets.transform import DRAWINGS, InputTransform
from tuner.errors import DataError, UnavailableError
from tuner.spec.study_spec import DatasetReference

DIGITS = DatasetReference(name="digits")


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.fixture
def digits(tmp_path: Path) -> DatasetInfo:
    return prepare(DIGITS, tmp_path / "root")


def test_arrays_come_back_as_they_were(digits: DatasetInfo) -> None:
    dataset = load(DIGITS)
    for folder, split in ((digits.train, dataset.train), (digits.test, dataset.test)):
        images, labels = read_arrays(folder)
        assert np.array_equal(images, split.images)
        assert np.array_equal(labels, split.labels)
        assert not images.flags.writeable


def test_info_describes_the_arrays(digits: DatasetInfo) -> None:
    assert digits.folder.name == f"digits-{digits.digest[:12]}"
    assert digits.image_shape == (8, 8, 1)
    assert (digits.train_count, digits.test_count) == (1437, 360)
    assert digits.background == "dark"
    assert names_in(digits.folder) == ["dataset.json", "test", "train"]
    assert names_in(digits.folder.parent) == [".lock", digits.folder.name]


def test_preparing_again_keeps_the_folder(digits: DatasetInfo) -> None:
    before = digits.folder.stat().st_ino
    assert prepare(DIGITS, digits.folder.parent) == digits
    assert digits.folder.stat().st_ino == before


def test_a_moved_folder_is_whole(digits: DatasetInfo, tmp_path: Path) -> None:
    moved = Path(shutil.move(digits.folder, tmp_path / "elsewhere"))
    assert read_info(moved) == digits.model_copy(update={"folder": moved})
    assert len(read_arrays(read_info(moved).train)[1]) == 1437


@pytest.mark.parametrize("file", ["train/images.npy", "test/labels.npy", "dataset.json"])
def test_a_damaged_folder_is_written_again(digits: DatasetInfo, file: str) -> None:
    path = digits.folder / file
    whole = path.read_bytes()
    path.write_bytes(whole[:-10])
    assert prepare(DIGITS, digits.folder.parent) == digits
    assert path.read_bytes() == whole


def test_a_changed_byte_is_noticed(digits: DatasetInfo) -> None:
    path = digits.train / "images.npy"
    whole = path.read_bytes()
    path.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    prepare(DIGITS, digits.folder.parent)
    assert path.read_bytes() == whole


def test_truncated_arrays_and_missing_folders_are_refused(
    digits: DatasetInfo, tmp_path: Path
) -> None:
    path = digits.train / "images.npy"
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(DataError, match=r"images.npy: not a readable array"):
        read_arrays(digits.train)
    with pytest.raises(DataError, match=r"dataset.json: not a prepared data set"):
        read_info(tmp_path)


def test_processes_at_once_share_one_folder(tmp_path: Path, arrays: Any) -> None:
    root, file = tmp_path / "root", tmp_path / "mine.npz"
    np.savez(file, **arrays._asdict())
    code = (
        "from pathlib import Path\n"
        "from tuner.datasets.store import prepare\n"
        "from tuner.spec.study_spec import DatasetReference\n"
        f"reference = DatasetReference(name='npz', args={{'path': {str(file)!r}}})\n"
        f"print(prepare(reference, Path({str(root)!r})).folder.name)"
    )
    processes = [
        subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
        for _ in range(3)
    ]
    folders = {process.communicate()[0].strip() for process in processes}
    assert [process.returncode for process in processes] == [0, 0, 0]
    assert len(folders) == 1
    assert names_in(root) == [".lock", *folders]


def test_a_root_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UnavailableError, match=r"file/root: cannot keep .* \(Not a directory\)"):
        prepare(DIGITS, tmp_path / "file" / "root")


def as_before_transforms(info: DatasetInfo, name: str) -> DatasetInfo:
    """Reads it again as an earlier version had written it."""
    path = info.folder / "dataset.json"
    known = json.loads(path.read_text())
    known.pop("reading", None)
    path.write_text(json.dumps({**known, "name": name}))
    return read_info(info.folder)


def test_data_prepared_before_transforms_is_read_as_it_was(digits: DatasetInfo) -> None:
    assert digits.transform == DRAWINGS.transform((8, 8, 1), "dark", digits.content_fraction)
    assert as_before_transforms(digits, "digits").transform == digits.transform
    folder = as_before_transforms(digits, "image-folder")
    assert folder.transform == InputTransform(image_shape=(8, 8, 1), fit="stretch")


def test_preparing_again_states_how_pictures_are_read(digits: DatasetInfo) -> None:
    assert as_before_transforms(digits, "digits").reading is None
    assert prepare(DIGITS, digits.folder.parent).reading == DRAWINGS
