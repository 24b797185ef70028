"""The documentation refers only to tests that exist, by whole names or by beginnings with `...`."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = sorted([ROOT / "README.md", *ROOT.glob("docs/**/*.md")])
FILES = sorted(ROOT.glob("tests/**/test_*.py"))
TESTS = [name for file in FILES for name in re.findall(r"(?m)^def (test_\w+)", file.read_text())]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_a_page_names_tests_that_exist(page: Path) -> None:
    text = page.read_text()
    paths = set(re.findall(r"\btests/[\w/]+(?:\.py)?", text))
    assert not [path for path in paths if not (ROOT / path).exists()]
    for name, dots in re.findall(r"`(test(?:_[a-z0-9]+){3,})(\.\.\.)?`", text):
        known = [test for test in TESTS if (test.startswith(name) if dots else test == name)]
        assert known, f"{name}{dots}"
