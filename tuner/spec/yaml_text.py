"""YAML text to plain Python data and back; the only place that runs ruamel.yaml.

YAML 1.2, so `1e-4` is a number. Nothing but plain values comes out of a document.
"""

import io
from collections.abc import Mapping, Sequence
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap, CommentedSeq
from ruamel.yaml.error import MarkedYAMLError, YAMLError

from tuner.errors import SpecError
from tuner.spec.yaml_inspection import TOO_DEEP, document_problems, position

MOST_BYTES = 1_000_000


def load(text: str, source: str) -> Any:
    """The one document in `text` as mappings, lists and scalars; None when it is empty.

    Raises:
        SpecError: every place where `text` is no YAML, or more than plain data.
    """
    if len(text.encode(errors="replace")) > MOST_BYTES:
        raise SpecError(source, [f"must be at most {MOST_BYTES} bytes"])
    yaml = YAML(typ="safe", pure=True)
    try:
        document = yaml.compose(text)
        if document is None:
            return None
        if problems := document_problems(document, yaml.resolver):
            raise SpecError(source, problems)
        return yaml.constructor.construct_document(document)
    except MarkedYAMLError as error:
        raise SpecError(source, [_marked(error)]) from error
    except YAMLError as error:
        raise SpecError(source, [f"must be YAML: {_first_line(error)}"]) from error
    except (ValueError, OverflowError) as error:
        raise SpecError(source, ["must be YAML: an escape names no character"]) from error
    except RecursionError as error:
        raise SpecError(source, [TOO_DEEP]) from error


def dump(document: Mapping[str, object]) -> str:
    """`document` as YAML: top-level entries on lines of their own, the rest on one line."""
    yaml = YAML(pure=True)
    yaml.width = MOST_BYTES
    yaml.indent(mapping=2, sequence=4, offset=2)
    stream = io.StringIO()
    yaml.dump({key: _block(value) for key, value in document.items()}, stream)
    return stream.getvalue()


def flow(value: object) -> str:
    """`value` on one line, as it would stand behind a key."""
    return dump({"x": _flow(value)}).removeprefix("x:").strip()


def _marked(error: MarkedYAMLError) -> str:
    mark = error.problem_mark or error.context_mark
    problem = str(error.problem or error.context)
    whole = f"{error.context}, {problem}" if problem.startswith("but ") else problem
    words = " ".join(whole.split())
    return f"{position(mark)}: {words}" if mark else words


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0]


def _block(value: object) -> object:
    if isinstance(value, Mapping) and any(_is_nested(entry) for entry in value.values()):
        return {key: _flow(entry) for key, entry in value.items()}
    if _is_nested(value) and isinstance(value, Sequence) and value:
        return [_flow(entry) for entry in value]
    return _flow(value)


def _is_nested(value: object) -> bool:
    return isinstance(value, Mapping | list | tuple)


def _flow(value: object) -> object:
    if isinstance(value, Mapping):
        mapping = CommentedMap({key: _flow(entry) for key, entry in value.items()})
        mapping.fa.set_flow_style()
        return mapping
    if isinstance(value, list | tuple):
        sequence = CommentedSeq([_flow(entry) for entry in value])
        sequence.fa.set_flow_style()
        return sequence
    return value
