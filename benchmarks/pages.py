"""What benchmarks write into the pages of `docs`: tables in Markdown, between two marks."""

from collections.abc import Iterable, Sequence


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """The lines of a table."""
    cells = (f"| {' | '.join(row)} |" for row in (head, *rows))
    first, *rest = cells
    return [first, f"|{'---|' * len(head)}", *rest]


def renewed(page: str, name: str, lines: Sequence[str]) -> str:
    """The page with these lines between `<!-- NAME: begin -->` and `<!-- NAME: end -->`."""
    begin, end = f"<!-- {name}: begin -->", f"<!-- {name}: end -->"
    before, _, rest = page.partition(begin)
    body = "\n".join(lines)
    return f"{before}{begin}\n{body}\n{end}{rest.partition(end)[2]}"
