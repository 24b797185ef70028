"""By which names a study reaches code: its own folders', entry points', and no other's."""

import os
import subprocess
import sys
import sysconfig
from collections.abc import Callable
from importlib.metadata import EntryPoint, EntryPoints
from pathlib import Path
from typing import Any

import pytest

from tuner import references
from tuner.datasets import known_datasets as datasets
from tuner.errors import DataError, ModelError, UsageError
from tuner.models import known_models as models
from tuner.references import resolve
from tuner.spec.study_spec import DatasetReference
from tuner.study.code_folders import folders_here

Write = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Write:
    """Writes a module into a folder that modules are imported from, and forgets it afterwards."""

    def put(name: str, code: str, below: str = "code") -> Path:
        folder = tmp_path / below
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{name}.py").write_text(code)
        monkeypatch.syspath_prepend(folder)
        monkeypatch.delitem(sys.modules, name, raising=False)
        return folder

    return put


def named(name: str) -> Callable[..., Any]:
    return resolve(
        name, {"digits": "tuner.datasets.builtin.digits:load"}, "tuner.datasets", DataError
    )


@pytest.mark.parametrize(
    "name",
    [
        "subprocess:getoutput",
        "os:system",
        "builtins:exec",
        "test.support:args_from_interpreter_flags",
        "sklearn.datasets:load_digits",
        "yaml:unsafe_load",
        "tuner.references:resolve",
        "__main__:main",
    ],
)
def test_code_that_is_not_the_studys_is_neither_imported_nor_run(name: str) -> None:
    with pytest.raises(
        UsageError, match=r"not one of the study's own modules.*TUNER_ALLOWED_MODULES"
    ):
        datasets.load(DatasetReference(name=name))
    with pytest.raises(ModelError, match="not one of the study's own modules"):
        models.hyperparameters(name)


def test_a_package_that_was_installed_is_not_even_imported(write: Write) -> None:
    write("installed_one", "raise RuntimeError('imported')", "lib/python3.9/site-packages")
    with pytest.raises(DataError, match="'installed_one' is not one of the study's own"):
        named("installed_one:load")


def test_a_link_to_an_installed_package_is_that_package(write: Write) -> None:
    installed = write("linked_one", "def load(): ...", "site-packages")
    folder = write("beside", "")
    (folder / "linked_one.py").symlink_to(installed / "linked_one.py")
    with pytest.raises(DataError, match="not one of the study's own"):
        named("linked_one:load")


def test_pythons_own_folder_is_known_by_its_name_without_links(tmp_path: Path) -> None:
    """Of a Python that is reached by a link, as those of pyenv and Homebrew are."""
    (tmp_path / "python").symlink_to(sys.base_prefix)
    own = Path(sysconfig.get_path("stdlib")).resolve() / "json"
    code = (
        "import sys, sysconfig; from pathlib import Path; from tuner.errors import DataError\n"
        "from tuner.references import make_importable, resolve\n"
        "assert Path(sysconfig.get_path('stdlib')).is_relative_to(sys.argv[1])\n"
        "make_importable([Path(sys.argv[2])])\n"
        "try: print(resolve('tool:main', {}, 'tuner.datasets', DataError))\n"
        "except DataError as error: print(error)"
    )
    python = tmp_path / "python" / "bin" / Path(sys.executable).resolve().name
    path = os.pathsep.join(entry for entry in sys.path if Path(entry).resolve() != own.parent)
    said = subprocess.check_output(
        [python, "-c", code, tmp_path, own], env={**os.environ, "PYTHONPATH": path}, text=True
    )
    assert "'tool' is not one of the study's own modules" in said


@pytest.mark.parametrize(
    "code",
    [
        "from subprocess import getoutput as load",
        "from functools import partial; import os; load = partial(os.system, 'false')",
        "from pathlib import Path as load",
        "import os; load = os.environ.get",
    ],
)
def test_what_a_module_only_imports_is_not_its_own(write: Write, code: str) -> None:
    write("borrowing", code)
    with pytest.raises(
        DataError, match=r"borrowing:load: is defined in .*not one of the study's own"
    ):
        named("borrowing:load")


@pytest.mark.parametrize(
    "code",
    [
        "def load(): ...",
        "from functools import partial\ndef loads(size): ...\nload = partial(loads, 3)",
        "from functools import cache\n@cache\ndef load(): ...",
        "class Load:\n    def __call__(self): ...\nload = Load()",
        "load = lambda: None",
        "from own_part import load",
    ],
)
def test_a_function_of_the_studys_own_folders_is_found(write: Write, code: str) -> None:
    write("own_part", "def load(): ...")
    write("own", code)
    assert callable(named("own:load"))


def test_the_person_who_runs_it_may_allow_a_module(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TUNER_ALLOWED_MODULES", "numpy, sklearn.datasets")
    assert callable(named("sklearn.datasets:load_digits"))
    for other in ("sklearn.utils:shuffle", "sklearn.datasets_more:load"):
        with pytest.raises(DataError, match="not one of the study's own"):
            named(other)


def test_a_registered_function_may_be_named_either_way(monkeypatch: pytest.MonkeyPatch) -> None:
    point = EntryPoint("written", "sklearn.datasets:load_digits", "tuner.datasets")
    monkeypatch.setattr(references, "entry_points", lambda **_: EntryPoints([point]))
    assert named("written") is named("sklearn.datasets:load_digits")
    assert named("digits") is named("tuner.datasets.builtin.digits:load")
    with pytest.raises(DataError, match="not one of the study's own"):
        named("sklearn.datasets:load_iris")


def test_a_folder_that_the_system_has_at_its_root_is_nobodys_package(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.syspath_prepend("/")
    with pytest.raises(DataError, match=r"'usr\.lib' is not one of the study's own"):
        named("usr.lib:load")


def test_a_shared_database_adds_no_folder_that_was_not_chosen_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    places = [tmp_path / name for name in ("elsewhere", "listed", "here/below", "not-there")]
    elsewhere, listed, below, _ = places
    for folder in (elsewhere, listed, below):
        folder.mkdir(parents=True)
    here = below.parent
    monkeypatch.chdir(here)
    monkeypatch.setenv("PYTHONPATH", f":{listed}")
    assert folders_here(places) == (elsewhere, listed, below, here)

    monkeypatch.setenv("TUNER_STORAGE_URL", "postgresql://server/tuner")
    assert folders_here([*places, Path("/"), tmp_path]) == (listed, below, here)


@pytest.mark.parametrize(
    ("below", "mark"),
    [
        ("lib/python3.11", ""),
        (".pyenv/versions/3.11.7/share", ""),
        (".cache/uv/archive-v0/x", ""),
        ("env/share", "env/bin/python3"),
        ("env/share", "env/pyvenv.cfg"),
        ("interpreter", "interpreter/os.py"),
    ],
)
def test_a_shared_database_adds_no_python_that_lies_in_a_chosen_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, below: str, mark: str
) -> None:
    """Another Python's own modules start programs as well as ours do."""
    here = tmp_path / "here"
    folder = here / below
    folder.mkdir(parents=True)
    if mark:
        (here / mark).parent.mkdir(exist_ok=True)
        (here / mark).touch()
    monkeypatch.chdir(here)
    monkeypatch.setenv("TUNER_STORAGE_URL", "postgresql://server/tuner")
    assert folders_here([folder]) == (here,)
    monkeypatch.chdir(folder)  # chosen itself
    assert folders_here([folder]) == (folder,)


def test_a_module_of_another_pythons_library_is_not_the_studys(write: Write) -> None:
    library = write("spawning", "def load(): ...", "lib/python3.9")
    (write("beside", "") / "linked").symlink_to(library)
    for name in ("spawning:load", "linked.spawning:load"):
        with pytest.raises(DataError, match="not one of the study's own"):
            named(name)


def test_a_module_that_a_shared_database_hides_is_refused_with_advice_that_helps(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    helps = "only if it is inside the current folder or a folder on PYTHONPATH"
    with pytest.raises(DataError, match="put it beside the study file") as without:
        named("not_there_at_all:load")
    assert helps not in str(without.value)
    monkeypatch.setenv("TUNER_STORAGE_URL", "postgresql://server/tuner")
    with pytest.raises(DataError, match=helps):
        named("not_there_at_all:load")
