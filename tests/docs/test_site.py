"""The site shows every page of the documentation; scripts/site builds it and checks its links."""

import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

DOCS = Path(__file__).parents[2] / "docs"
FROM_ELSEWHERE = {"index.md", "changelog.md"}
"""README.md and CHANGELOG.md, which scripts/site adds."""


def _pages(navigation: list[dict[str, Any]]) -> Iterator[str]:
    for entry in navigation:
        for target in entry.values():
            yield from [target] if isinstance(target, str) else _pages(target)


def test_the_navigation_has_every_page_once() -> None:
    navigation = tomllib.loads((DOCS / "zensical.toml").read_text())["project"]["nav"]
    pages = {page.name for page in DOCS.glob("*.md")} | FROM_ELSEWHERE
    assert sorted(_pages(navigation)) == sorted(pages)
