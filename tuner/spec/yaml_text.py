"""YAML text to plain Python data; the only place that runs ruamel.yaml.

YAML 1.2, so `1e-4` is a number. Nothing but plain values comes out of a document.
"""

import re
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError

from tuner.errors import SpecError
from tuner.spec.yaml_inspection import TOO_DEEP, document_problems, position

MOST_BYTES = 1_000_000

_OTHER_VERSION = re.compile(r"^%YAML[ \t]+(?!1\.2\s).*", re.MULTILINE)


def load(text: str, source: str) -> Any:
    """The one document in `text` as mappings, lists and scalars; None when it is empty.

    Raises:
        SpecError: every place where `text` is no YAML, or more than plain data.
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
        raise SpecError(source, ["must be YAML: an escape names no character"]) from error
    except RecursionError as error:
        raise SpecError(source, [TOO_DEEP]) from error


def _plain(yaml: YAML, text: str, source: str) -> Any:
    document = yaml.compose(text)
    if document is None:
        return None
    if problems := document_problems(document, yaml.resolver):
        raise SpecError(source, problems)
    return yaml.constructor.construct_document(document)


def _marked(error: MarkedYAMLError) -> str:
    mark = error.problem_mark or error.context_mark
    problem = str(error.problem or error.context)
    whole = f"{error.context}, {problem}" if problem.startswith("but ") else problem
    words = " ".join(whole.split())
    return f"{position(mark)}: {words}" if mark else words


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0]
