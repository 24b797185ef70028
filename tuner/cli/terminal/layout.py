"""Fits text and the columns of a table into a width. Widths are those of the characters shown."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import chain
from operator import ge

from rich.cells import cell_len

_WIDE_GAP, _EDGES = 3, 4
"""The blanks between two columns and beside a table where there is room for them."""
_LEAST = 4
"""No column gets narrower while numbers can stay whole."""
_NUMBER = re.compile(r"[-+]?[\d.,]+(e[-+]?\d+)?%?\s*")
_WORD = re.compile(r"[\d.]+ (?:s|min|h)(?!\S)\s*|n = \S+\s*|\S+\s*|^\s+")
"""A word, a number with its unit of time, or a number of trainings; and the spaces that follow."""
_PART = re.compile(r"[^\s_=]*[\s_=]+|[^\s_=]+")
"""A part of a name or an assignment."""


def folded(pieces: Iterable[str], width: int) -> list[str]:
    """Joins pieces to lines of at most `width`. A longer piece is a line of its own."""
    lines = [""]
    for piece in pieces:
        if lines[-1] and cell_len((lines[-1] + piece).rstrip()) > width:
            lines.append("")
        lines[-1] += piece
    return [line.rstrip() for line in lines]


def words(text: str) -> list[str]:
    """Splits text where a line may end."""
    return _WORD.findall(text)


def folded_cell(cell: str, width: int) -> str:
    """Folds a cell between words, and longer words within."""
    if cell_len(cell) <= width:
        return cell
    pieces = ([word] if _length([word]) <= width else _PART.findall(word) for word in words(cell))
    return "\n".join(folded(chain.from_iterable(pieces), width))


def folded_head(head: str, width: int) -> str:
    """Folds the name of a column between words and behind underscores."""
    return "\n".join(folded(_PART.findall(head), width))


@dataclass(frozen=True)
class Columns:
    """The columns of a table."""

    widths: tuple[int, ...]
    gap: int
    """The blanks between two columns."""

    @property
    def is_wide(self) -> bool:
        """Whether nothing is folded, and there is room beside the table too."""
        return self.gap == _WIDE_GAP

    @property
    def width(self) -> int:
        """The width of the whole table."""
        return sum(self.widths) + self.gap * (len(self.widths) - 1) + _EDGES * self.is_wide


def columns(heads: Sequence[str], rows: Sequence[Sequence[str]], room: int | None) -> Columns:
    """Returns columns that fit into `room` if that can be, with the widest gap that folds no cell.

    What is folded comes in this order, and the widest column gives way first: heads over two lines,
    cells over two lines, cells between words, words, and numbers last.

    Args:
        heads: the names of the columns.
        rows: the cells.
        room: the width of the terminal; None for no limit.
    """
    texts = list(zip(heads, *rows, strict=True))
    whole = [max(map(cell_len, text)) for text in texts]
    gaps = len(texts) - 1
    if room is None or sum(whole) + _WIDE_GAP * gaps + _EDGES <= room:
        return Columns(tuple(whole), _WIDE_GAP)
    least = [max(map(cell_len, ("", *cells))) for _, *cells in texts]
    for gap in (2, 1):
        widths = _narrowed(whole, texts, room - gap * gaps)
        if all(map(ge, widths, least)):
            break
    return Columns(tuple(widths), gap)


def _narrowed(whole: Sequence[int], texts: Sequence[Sequence[str]], room: int) -> list[int]:
    """The widths of columns in `room`, where `whole` are those of columns that are not folded.

    Each has room for its widest character.
    """
    widths = list(whole)
    cells = [[words(cell) for cell in cells] for _, *cells in texts]
    heads = [_PART.findall(head) for head, *_ in texts]
    both = [[head, *own] for head, own in zip(heads, cells, strict=True)]
    for least in (
        [max([_halved(head), *map(_length, own)]) for head, *own in both],
        [max(map(_halved, own)) for own in both],
        [_longest(*own) for own in both],
        [_longest(*map(_parts, own)) for own in both],
        [max(_longest(*map(_numbers, own)), _LEAST) for own in cells],
        [max(map(cell_len, {" ", *"".join(text)})) for text in texts],
    ):
        _narrow(widths, least, room)
    return widths


def _narrow(widths: list[int], least: Sequence[int], room: int) -> None:
    """Narrows the widest columns, none below its least width, until all fit."""
    while sum(widths) > room:
        wide = [column for column, width in enumerate(widths) if width > least[column]]
        if not wide:
            return
        widths[max(wide, key=widths.__getitem__)] -= 1


def _length(pieces: Sequence[str]) -> int:
    return cell_len("".join(pieces).rstrip())


def _halved(pieces: Sequence[str]) -> int:
    """The width of pieces in two lines."""
    cuts = range(max(len(pieces), 1))
    return min(max(_length(pieces[:cut]), _length(pieces[cut:])) for cut in cuts)


def _parts(pieces: Sequence[str]) -> list[str]:
    return [part for piece in pieces for part in _PART.findall(piece)]


def _numbers(pieces: Sequence[str]) -> list[str]:
    return [part for part in _parts(pieces) if _NUMBER.fullmatch(part)]


def _longest(*texts: Sequence[str]) -> int:
    return max((_length([piece]) for text in texts for piece in text), default=0)
