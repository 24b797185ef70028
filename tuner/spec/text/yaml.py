"""Reads and writes YAML 1.2 with plain values only. The only code that uses ruamel.yaml.

In YAML 1.2, `1e-4` is a number.
"""

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from tuner.errors import SpecError

MOST_BYTES = 1_000_000

_OTHER_VERSION = re.compile(r"^%YAML[ \t]+(?!1\.2\s).*", re.MULTILINE)
_MOST_VALUES = 100_000
"""The limit with every alias expanded, against alias bombs."""
_MOST_LEVELS = 20
_LONGEST_NUMBER = 100

_PREFIX = "tag:yaml.org,2002:"
_NUMBERS = {"int", "float", "bool", "null"}
_TEXT = {"str", "timestamp", "value"}
"""YAML 1.2 has neither dates nor the key `=`; both are read as text."""
_TOO_DEEP = f"must be nested at most {_MOST_LEVELS} levels deep"

_WORD = re.compile(r"[A-Za-z_][A-Za-z0-9_./-]*(:[A-Za-z_][A-Za-z0-9_]*)?")
_NOT_TEXT = frozenset({"null", "true", "false", "yes", "no", "on", "off", "y", "n"})
"""Words that some version of YAML does not read as text."""


def load(text: str, source: str) -> Any:
    """Returns the document in `text` as mappings, lists and scalars; None if it is empty.

    Raises:
        SpecError: the text is not YAML, or has other than plain values; lists all places.
    """
    if len(text.encode(errors="replace")) > MOST_BYTES:
        raise SpecError(source, [f"must be at most {MOST_BYTES} bytes"])
    if other := _OTHER_VERSION.search(text):
        raise SpecError(source, [f"must be YAML 1.2, got {other.group().strip()}"])
    yaml = YAML(typ="safe", pure=True)
    try:
        return _plain(yaml, text, source)
    except MarkedYAMLError as error:
        raise SpecError(source, [_marked(error)]) from error
    except YAMLError as error:
        raise SpecError(source, [f"must be YAML: {_first_line(error)}"]) from error
    except (ValueError, OverflowError) as error:
        raise SpecError(source, ["must be YAML: an escape is not a valid character"]) from error
    except RecursionError as error:
        raise SpecError(source, [_TOO_DEEP]) from error


def dump(document: Mapping[str, object]) -> str:
    """Writes `document` with one line for each entry of its first two levels."""
    return "".join(_entry(key, value) for key, value in document.items())


def flow(value: object) -> str:
    """Writes `value` on one line, as after a key."""
    if isinstance(value, Mapping):
        return f"{{{', '.join(f'{_text(str(k))}: {flow(entry)}' for k, entry in value.items())}}}"
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(flow, value))}]"
    return _text(value) if isinstance(value, str) else json.dumps(value)


def _plain(yaml: YAML, text: str, source: str) -> Any:
    document = yaml.compose(text)
    if document is None:
        return None
    if problems := list(_Inspection(yaml.resolver).problems(document)):
        raise SpecError(source, problems)
    return yaml.constructor.construct_document(document)


def _marked(error: MarkedYAMLError) -> str:
    mark = error.problem_mark or error.context_mark
    problem = str(error.problem or error.context)
    whole = f"{error.context}, {problem}" if problem.startswith("but ") else problem
    words = " ".join(whole.split())
    return f"{_position(mark)}: {words}" if mark else words


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0]


class _Inspection:
    """Finds the problems of a composed document. Visits each node once, even if it is aliased.

    Changes dates to text.
    """

    def __init__(self, resolver: Any) -> None:
        self._resolver = resolver
        self._sizes: dict[int, int] = {}
        self._open: set[int] = set()

    def problems(self, document: Node) -> Iterator[str]:
        yield from self._walk(document, 1)
        if self._sizes.get(id(document), 0) > _MOST_VALUES:
            yield f"must have at most {_MOST_VALUES} values, with aliases expanded"

    def _walk(self, node: Node, level: int) -> Iterator[str]:
        if id(node) in self._open:
            yield f"{_place(node)}: an alias must not be inside its own anchor"
        elif level > _MOST_LEVELS:
            yield f"{_place(node)}: {_TOO_DEEP}"
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
            yield f"{_place(node)}: a number may have at most {_LONGEST_NUMBER} characters"
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
    return _position(node.start_mark)


def _position(mark: Any) -> str:
    """Formats line and column of a ruamel mark, counted from 1."""
    return f"line {mark.line + 1}, column {mark.column + 1}"


def _entry(key: str, value: object) -> str:
    if isinstance(value, Mapping) and any(map(_is_nested, value.values())):
        lines = [f"  {_text(name)}: {flow(entry)}\n" for name, entry in value.items()]
    elif isinstance(value, list | tuple) and any(map(_is_nested, value)):
        lines = [f"  - {flow(entry)}\n" for entry in value]
    else:
        return f"{key}: {flow(value)}\n"
    return f"{key}:\n{''.join(lines)}"


def _is_nested(value: object) -> bool:
    return isinstance(value, Mapping | list | tuple)


def _text(text: str) -> str:
    if _WORD.fullmatch(text) and text.lower() not in _NOT_TEXT:
        return text
    quoted = json.dumps(text, ensure_ascii=False)
    return "".join(each if each.isprintable() else f"\\U{ord(each):08x}" for each in quoted)
