"""How the program is laid out: small packages, and one name for one thing."""

import ast
from collections import defaultdict
from pathlib import Path

import pytest

PROGRAM = Path(__file__).parents[1] / "tuner"
PACKAGES = sorted(file.parent for file in PROGRAM.rglob("__init__.py"))
MOST_MODULES = 10


def test_no_two_classes_have_one_name() -> None:
    places = defaultdict[str, list[str]](list)
    for file in sorted(PROGRAM.rglob("*.py")):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.ClassDef):
                places[node.name].append(f"{file.relative_to(PROGRAM)}:{node.lineno}")

    assert {name: where for name, where in places.items() if len(where) > 1} == {}


@pytest.mark.parametrize("package", PACKAGES[1:], ids=lambda path: str(path.relative_to(PROGRAM)))
def test_a_package_has_at_most_ten_modules(package: Path) -> None:
    modules = [file for file in package.glob("*.py") if file.name != "__init__.py"]
    packages = [folder for folder in PACKAGES if folder.parent == package]

    assert len(modules) + len(packages) <= MOST_MODULES


@pytest.mark.parametrize("package", PACKAGES, ids=lambda path: str(path.relative_to(PROGRAM)))
def test_a_package_says_what_it_owns(package: Path) -> None:
    assert ast.get_docstring(ast.parse((package / "__init__.py").read_text()))
