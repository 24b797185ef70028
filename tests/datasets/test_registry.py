import subprocess
import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest

from tuner.datasets import known_datasets
from tuner.datasets.known_datasets import load
from tuner.errors import DataError, UsageError
from tuner.spec.study_spec import DatasetReference

Write = Callable[[str, str], Path]


def test_every_shipped_name_has_a_function_and_a_line() -> None:
    assert list(known_datasets.names()) == sorted(known_datasets.BUILTIN)
    for path in known_datasets.BUILTIN.values():
        module, _, function = path.partition(":")
        assert callable(getattr(import_module(module), function))


def test_listing_names_imports_nothing_heavy() -> None:
    code = (
        "import sys; from tuner.datasets.known_datasets import names; names()\n"
        "print({'numpy', 'sklearn', 'pydantic', 'PIL', 'keras'} & set(sys.modules))"
    )
    said = subprocess.check_output([sys.executable, "-c", code], text=True)
    assert said.strip() == "set()"


def test_an_unknown_name_lists_the_known_and_the_nearest() -> None:
    with pytest.raises(UsageError, match=r"unknown dataset 'mnits'.*'mnist'.*known: .*digits"):
        load(DatasetReference(name="mnits"))


@pytest.mark.parametrize(
    ("name", "args", "message"),
    [
        ("digits", {"path": "x"}, r"unexpected keyword argument 'path'.*\(accepted: none\)"),
        ("npz", {}, r"missing a required argument: 'path'.*got args none \(accepted: path\)"),
        (
            "image-folder",
            {"path": "x", "dim": 3},
            r"'dim'.*\(accepted: path, size, grey, fit, background\)",
        ),
    ],
)
def test_wrong_arguments_name_the_accepted_ones(
    name: str, args: dict[str, str], message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        load(DatasetReference(name=name, args=args))


def test_a_function_of_ones_own_is_called_with_its_arguments(
    own_module: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = own_module(
        "registry_good",
        "import numpy as np\n"
        "def stripes(rows, height=4):\n"
        "    x = np.zeros((rows, height, 5), np.uint8)\n"
        "    x[:, 0, 0] = np.arange(rows)\n"
        "    return (x, np.arange(rows) % 2), (x, np.arange(rows) % 2)\n",
    )
    monkeypatch.syspath_prepend(folder)
    dataset = load(DatasetReference(name="registry_good:stripes", args={"rows": 6}))
    assert dataset.train.images.shape == (6, 4, 5, 1)
    assert dataset.source == "registry_good:stripes"


def test_an_error_in_it_is_told_in_one_line_with_its_place(
    own_module: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = own_module("registry_bad", "def broken():\n    return [][1]\n")
    monkeypatch.syspath_prepend(folder)
    with pytest.raises(DataError, match=r"IndexError: list index.*registry_bad.py:2\)$") as raised:
        load(DatasetReference(name="registry_bad:broken"))
    assert isinstance(raised.value.__cause__, IndexError)


def test_digits_are_the_same_stratified_rows_every_time() -> None:
    first, again = (load(DatasetReference(name="digits")) for _ in range(2))
    assert first.train.images.shape == (1437, 8, 8, 1)
    assert first.test.images.shape == (360, 8, 8, 1)
    assert (first.train.images.min(), first.train.images.max()) == (0, 255)
    assert np.array_equal(first.test.images, again.test.images)
    assert np.bincount(first.test.labels).min() >= 34
    assert first.classes == tuple("0123456789")
