"""What a YAML document may contain before anyone asks what it means.

Owns the rules for a composed document, by line and column: plain values, text keys, each
once, no deeper and no larger than a study could need.
"""

from collections.abc import Iterator
from typing import Any

from ruamel.yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

_MOST_VALUES = 100_000
"""Counted with every alias written out, which is how large an alias bomb really is."""
_MOST_LEVELS = 20
_LONGEST_NUMBER = 100

_PREFIX = "tag:yaml.org,2002:"
_NUMBERS = {"int", "float", "bool", "null"}
_TEXT = {"str", "timestamp", "value"}
"""YAML 1.2 has neither dates nor the key `=`; both are the text that they look like."""

TOO_DEEP = f"must be nested at most {_MOST_LEVELS} levels deep"


def document_problems(document: Node, resolver: Any) -> list[str]:
    """Everything in `document` that is no plain data; dates in it become text."""
    return list(_Inspection(resolver).problems(document))


def position(mark: Any) -> str:
    """Line and column of one of ruamel's marks, counted from 1."""
    return f"line {mark.line + 1}, column {mark.column + 1}"


class _Inspection:
    """One walk over a composed document; each node once, however often it is aliased."""

    def __init__(self, resolver: Any) -> None:
        self._resolver = resolver
        self._sizes: dict[int, int] = {}
        self._open: set[int] = set()

    def problems(self, document: Node) -> Iterator[str]:
        yield from self._walk(document, 1)
        if self._sizes.get(id(document), 0) > _MOST_VALUES:
            yield f"must hold at most {_MOST_VALUES} values, aliases written out"

    def _walk(self, node: Node, level: int) -> Iterator[str]:
        if id(node) in self._open:
            yield f"{_place(node)}: an alias must not stand inside what it names"
        elif level > _MOST_LEVELS:
            yield f"{_place(node)}: {TOO_DEEP}"
        elif id(node) not in self._sizes:
            self._open.add(id(node))
            yield from self._own(node)
            for child in _children(node):
                yield from self._walk(child, level + 1)
            self._open.remove(id(node))
            self._sizes[id(node)] = 1 + sum(
                self._sizes.get(id(child), 0) for child in _children(node)
            )

    def _own(self, node: Node) -> Iterator[str]:
        if isinstance(node, ScalarNode):
            yield from self._scalar(node)
        elif str(node.tag) not in (f"{_PREFIX}map", f"{_PREFIX}seq"):
            yield _refused_tag(node)
        elif isinstance(node, MappingNode):
            yield from _keys(node)

    def _scalar(self, node: ScalarNode) -> Iterator[str]:
        kind = str(node.tag).removeprefix(_PREFIX)
        if kind in _TEXT:
            node.tag = f"{_PREFIX}str"
            if not _is_encodable(node.value):
                yield f"{_place(node)}: must be Unicode text"
        elif kind in _NUMBERS:
            yield from self._number(node, kind)
        elif kind != "merge":
            yield _refused_tag(node)

    def _number(self, node: ScalarNode, kind: str) -> Iterator[str]:
        if len(node.value) > _LONGEST_NUMBER:
            yield f"{_place(node)}: a number may have {_LONGEST_NUMBER} characters"
        elif self._resolver.resolve(ScalarNode, node.value, (True, False)) != node.ctag:
            yield f"{_place(node)}: {node.value!r} is no {kind}"


def _keys(node: MappingNode) -> Iterator[str]:
    first: dict[str, Node] = {}
    for key, _ in node.value:
        kind = str(key.tag).removeprefix(_PREFIX)
        if not isinstance(key, ScalarNode) or kind not in {*_TEXT, "merge"}:
            yield f"{_place(key)}: a key must be text, got {_written(key)}"
        elif key.value in first:
            line = first[key.value].start_mark.line + 1
            yield f"{_place(key)}: duplicate key {key.value!r}, first in line {line}"
        else:
            first[key.value] = key


def _children(node: Node) -> list[Node]:
    if isinstance(node, MappingNode):
        return [child for pair in node.value for child in pair]
    return list(node.value) if isinstance(node, SequenceNode) else []


def _is_encodable(text: str) -> bool:
    return not any("\ud800" <= character <= "\udfff" for character in text)


def _written(node: Node) -> str:
    return repr(node.value) if isinstance(node, ScalarNode) else "a mapping or list"


def _refused_tag(node: Node) -> str:
    tag = str(node.tag).replace(_PREFIX, "!!")
    return f"{_place(node)}: tag {tag!r} is not allowed; write plain values"


def _place(node: Node) -> str:
    return position(node.start_mark)
