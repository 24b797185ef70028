"""What counts as a study's code, and how a change of it is shown."""

import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tuner.code import code_of, difference, digest, of_modules

FILES = {
    "networks.py": "import numpy, helper\nfrom parts.layers import Dense\n",
    "helper.py": "def build():\n    import lazy\n",
    "lazy.py": "from . import nowhere\nimport tuner.api\n",
    "parts/layers.py": "from .inner import deep\nfrom ..helper import build\n",
    "parts/inner/__init__.py": "from . import deep, absent\n",
    "parts/inner/deep.py": "import networks\nimport broken\n",
    "broken.py": "this is no Python",
    "latin.py": "name = 'caf\xe9'\n",
    "unrelated.py": "import networks\n",
    "numpy/notes.txt": "a folder that is no package",
}
IMPORTED = set(FILES) - {"unrelated.py", "latin.py", "numpy/notes.txt"}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for path, text in FILES.items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(text, encoding="latin-1")
    return tmp_path


def test_the_code_is_what_is_imported_from_the_folders_wherever_they_lie(folder: Path) -> None:
    code = code_of({"networks"}, [folder / "nowhere", folder])
    assert code == {path: FILES[path] for path in sorted(IMPORTED)}
    assert of_modules(code, {"networks", "parts.inner"}).keys() == {
        "networks.py",
        "parts/inner/__init__.py",
    }
    assert code_of({"latin", "not.there", "tuner.home"}, [folder]).keys() == {"latin.py"}


def test_the_first_folder_that_has_a_module_counts(folder: Path) -> None:
    other = folder / "other"
    other.mkdir()
    (other / "helper.py").write_text("")
    assert code_of({"networks"}, [other, folder])["helper.py"] == ""


def test_an_installed_function_is_followed_into_its_own_package_alone(folder: Path) -> None:
    """That is not in the study's folders, and imports a module that is."""
    site = folder / "site"
    (site / "mine").mkdir(parents=True)
    (site / "mine" / "__init__.py").write_text("from mine import nets\nimport yours, helper\n")
    (site / "mine" / "nets.py").write_text("")
    (site / "yours.py").write_text("")
    code = (
        "import sys; sys.path.append(sys.argv[1])\n"
        "from pathlib import Path; from tuner.code import code_of\n"
        "print(*code_of({'mine.nets'}, [Path(sys.argv[2])]))"
    )
    command = [sys.executable, "-c", code, str(site), str(folder)]
    found = subprocess.check_output(command, text=True).split()
    assert found == ["helper.py", "lazy.py", "mine/__init__.py", "mine/nets.py"]


CODE = st.dictionaries(st.sampled_from(["a.py", "b.py", "c/d.py"]), st.text(max_size=20))


@given(before=CODE, now=CODE)
def test_two_states_have_one_digest_exactly_if_they_are_equal(
    before: dict[str, str], now: dict[str, str]
) -> None:
    assert (digest(before) == digest(now)) == (before == now)
    assert difference(now, now) == ""


def test_a_difference_is_shown_up_to_a_bound() -> None:
    assert difference({"a.py": "x = 1\n"}, {"a.py": "x = 2\n"}).splitlines() == [
        "--- a.py before",
        "+++ a.py now",
        "@@ -1 +1 @@",
        "-x = 1",
        "+x = 2",
    ]
    lines = difference({}, {"a.py": "\n".join(map(str, range(1000)))}).splitlines()
    assert len(lines) == 61
    assert lines[-1] == "..."
