"""Data sets from files of one's own: `npz` and `image-folder`."""

import io
import os
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from tuner.datasets.dataset import Dataset
from tuner.datasets.known_datasets import load
from tuner.datasets.published.sources import NpzFile
from tuner.datasets.store import prepare, read_files
from tuner.errors import DataError, UsageError
from tuner.spec.study_spec import DatasetReference


def load_npz(path: Path | str) -> Dataset:
    return load(DatasetReference(name="npz", args={"path": str(path)}))


def load_folder(path: Path, **args: Any) -> Dataset:
    return load(DatasetReference(name="image-folder", args={"path": str(path), **args}))


@pytest.fixture
def arrays_by_name(arrays: Any) -> dict[str, Any]:
    return dict(arrays._asdict())


def test_npz_is_read_relative_to_the_current_folder(
    tmp_path: Path, arrays_by_name: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    np.savez(tmp_path / "mine.npz", **arrays_by_name)
    monkeypatch.chdir(tmp_path)
    dataset = load_npz("mine.npz")
    assert np.array_equal(dataset.test.images[..., 0], arrays_by_name["x_test"])
    assert dataset.classes == ("0", "1", "2")
    assert dataset.source == "mine.npz"


def test_npz_with_objects_is_refused(tmp_path: Path, arrays_by_name: dict[str, Any]) -> None:
    pickled = {**arrays_by_name, "y_train": np.array([{}, []], dtype=object)}
    np.savez(tmp_path / "mine.npz", **pickled)
    with pytest.raises(DataError, match=r"mine.npz: not a readable .npz file of numbers: Object"):
        load_npz(tmp_path / "mine.npz")


def test_npz_without_an_array_names_it(tmp_path: Path, arrays_by_name: dict[str, Any]) -> None:
    del arrays_by_name["y_test"]
    np.savez(tmp_path / "mine.npz", **arrays_by_name)
    with pytest.raises(DataError, match="y_test missing among x_train, y_train, x_test"):
        load_npz(tmp_path / "mine.npz")


@pytest.mark.parametrize("content", [b"", b"text", b"PK\x03\x04cut"])
def test_what_is_no_npz_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "mine.npz").write_bytes(content)
    with pytest.raises(DataError, match=r"mine.npz: not a readable"):
        load_npz(tmp_path / "mine.npz")


@given(st.data())
def test_a_changed_byte_is_refused_or_harmless(data: st.DataObject) -> None:
    content = bytearray(npz_content())
    place = data.draw(st.integers(0, len(content) - 1))
    content[place] ^= data.draw(st.integers(1, 255))
    with TemporaryDirectory() as folder:
        path = Path(folder) / "mine.npz"
        path.write_bytes(content)
        try:
            read = NpzFile(path).fetch()
        except DataError:
            return
    assert all(array.tolist() == [[0, 1], [1, 0]] for array in read)


@cache
def npz_content() -> bytes:
    buffer = io.BytesIO()
    same = np.array([[0, 1], [1, 0]], np.uint8)
    np.savez(buffer, x_train=same, y_train=same, x_test=same, y_test=same)
    return buffer.getvalue()


def test_single_array_and_missing_file_are_refused(tmp_path: Path) -> None:
    np.save(tmp_path / "mine.npy", np.zeros(3))
    with pytest.raises(DataError, match=r"mine.npy: not a readable"):
        load_npz(tmp_path / "mine.npy")
    with pytest.raises(DataError, match=r"none.npz: No such file"):
        load_npz(tmp_path / "none.npz")


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """Two classes, three pictures each in train and one in test; cats are red."""
    for split, count in (("train", 3), ("test", 1)):
        for name, color in (("cat", (255, 0, 0)), ("dog", (0, 0, 255))):
            folder = tmp_path / "pictures" / split / name
            folder.mkdir(parents=True)
            for index in range(count):
                Image.new("RGB", (6, 4), color).save(folder / f"{index}.png")
    return tmp_path / "pictures"


def test_pictures_are_read_in_order_with_their_classes(pictures: Path) -> None:
    (pictures / "train/cat/.hidden").touch()
    dataset = load_folder(pictures)
    assert dataset.classes == ("cat", "dog")
    assert dataset.train.labels.tolist() == [0, 0, 0, 1, 1, 1]
    assert dataset.test.images.shape == (2, 4, 6, 3)
    assert dataset.test.images[:, 0, 0].tolist() == [[255, 0, 0], [0, 0, 255]]


def test_pictures_are_named_by_their_files_in_the_prepared_data_too(
    pictures: Path, tmp_path: Path
) -> None:
    reference = DatasetReference(name="image-folder", args={"path": str(pictures), "size": 8})
    files = tuple(
        str(file.relative_to(pictures))
        for folder in sorted((pictures / "train").iterdir())
        for file in sorted(folder.iterdir())
        if not file.name.startswith(".")
    )
    assert load(reference).files == files
    prepared = prepare(reference, tmp_path / "root")
    assert read_files(prepared.train) == files
    (prepared.train / "files.json").unlink()
    assert read_files(prepared.train) == (), "as an earlier version prepared it"
    prepare(reference, tmp_path / "root")
    assert read_files(prepared.train) == files
    (prepared.train / "files.json").write_text("{")
    with pytest.raises(DataError, match=r"files.json: not a list of file names"):
        read_files(prepared.train)


def test_a_class_folder_whose_name_is_no_text_is_refused(pictures: Path) -> None:
    for split in ("train", "test"):
        (pictures / split / "dog").rename(pictures / split / os.fsdecode(b"ch\xe9ri"))
    with pytest.raises(DataError, match=r"class names must be text in UTF-8, got 'ch\\udce9ri'"):
        load_folder(pictures)


def test_pictures_are_made_grey_and_brought_to_one_size(pictures: Path) -> None:
    Image.new("L", (9, 9)).save(pictures / "train/dog/large.png")
    dataset = load_folder(pictures, size=5, grey=True)
    assert dataset.train.images.shape == (7, 5, 5, 1)


def test_pictures_of_two_sizes_need_the_argument(pictures: Path) -> None:
    Image.new("RGB", (9, 9)).save(pictures / "train/dog/large.png")
    with pytest.raises(DataError, match=r"large.png: must be as large as 0.png.*argument size"):
        load_folder(pictures)


@pytest.mark.parametrize("size", [0, -1, True, 2.5, "big"])
def test_size_is_a_positive_whole_number(pictures: Path, size: Any) -> None:
    with pytest.raises(UsageError, match="size: must be a whole number > 0"):
        load_folder(pictures, size=size)


@pytest.mark.parametrize(
    ("args", "rule"),
    [
        ({"fit": "squeeze"}, "fit: must be stretch, crop or pad, got 'squeeze'"),
        ({"background": "whiite"}, "background: must be a colour, .* got 'whiite'"),
        ({"background": 3}, "background: must be a colour, .* got 3"),
    ],
)
def test_fit_and_background_are_checked(pictures: Path, args: dict[str, Any], rule: str) -> None:
    with pytest.raises(UsageError, match=rule):
        load_folder(pictures, **args)


@pytest.mark.parametrize(("ink", "ground"), [("black", "white"), ("white", "black")])
def test_ink_on_a_transparent_ground_needs_a_background_of_another_colour(
    ink: str, ground: str, tmp_path: Path
) -> None:
    for split in ("train", "test"):
        for wide, name in enumerate(("narrow", "wide")):
            (tmp_path / split / name).mkdir(parents=True)
            for index in range(2):
                picture = Image.new("RGBA", (8, 8))
                picture.paste(ink, (1 + index, 1, 3 + index + 3 * wide, 7))
                picture.save(tmp_path / split / name / f"{index}.png")
    with pytest.raises(DataError, match=r"all 4 images are the same, .* state a background"):
        load_folder(tmp_path, background=ink)
    shown = load_folder(tmp_path, background=ground).train.images
    assert len(np.unique(shown, axis=0)) == 4
    if ground == "white":
        np.testing.assert_array_equal(load_folder(tmp_path).train.images, shown)


def test_an_unreadable_picture_is_named(pictures: Path) -> None:
    file = pictures / "train/dog/1.png"
    file.write_bytes(file.read_bytes()[:40])
    with pytest.raises(DataError, match=r"train/dog/1.png: is no picture"):
        load_folder(pictures)
    file.write_text("no picture")
    with pytest.raises(DataError, match=r"train/dog/1.png: is no picture"):
        load_folder(pictures)


def test_a_class_of_the_test_set_alone_is_refused(pictures: Path) -> None:
    (pictures / "test/bird").mkdir()
    with pytest.raises(DataError, match=r"test: must hold only .* cat, dog, got 'bird'"):
        load_folder(pictures)


def test_missing_and_empty_folders_are_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"train: No such file or directory"):
        load_folder(tmp_path)
    (tmp_path / "train").mkdir()
    (tmp_path / "test").mkdir()
    with pytest.raises(DataError, match=r"train: must hold pictures .* got none"):
        load_folder(tmp_path)
