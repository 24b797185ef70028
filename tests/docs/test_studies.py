"""Every study file that the documentation shows is one that the reader takes."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tuner.spec.text.reader import parse_study

ROOT = Path(__file__).parents[2]
_SHOWN = re.compile(r"^```yaml\n(name: .*?)^```$", re.MULTILINE | re.DOTALL)
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def _studies() -> Iterator[tuple[str, str]]:
    for page in PAGES:
        blocks = re.findall(
            r"^```yaml\n(name: .*?)^```$", page.read_text(), re.MULTILINE | re.DOTALL
        )
        yield from ((page.name, block) for block in blocks)


STUDIES = list(_studies())


@pytest.mark.parametrize(("page", "study"), STUDIES, ids=[page for page, _ in STUDIES])
def test_a_study_in_the_documentation_is_valid(page: str, study: str) -> None:
    assert parse_study(study, page).slots > 0


def test_the_pages_that_teach_show_a_study() -> None:
    shown = {page for page, _ in STUDIES}
    assert shown >= {"README.md", "extending.md", "migrating.md", "study-file.md", "tutorial.md"}
