"""Plain data to YAML text, as people lay out a study file.

Our own, because ruamel's emitter does not read back every text that it writes: a plain
`:0` in a flow mapping, a NEL in quotes.
"""

import json
import re
from collections.abc import Mapping

_WORD = re.compile(r"[A-Za-z_][A-Za-z0-9_./-]*(:[A-Za-z_][A-Za-z0-9_]*)?")
_NOT_TEXT = frozenset({"null", "true", "false", "yes", "no", "on", "off", "y", "n"})
"""Words that some version of YAML reads as something else."""


def dump(document: Mapping[str, object]) -> str:
    """`document` with a line for each entry of its first two levels."""
    return "".join(_entry(key, value) for key, value in document.items())


def flow(value: object) -> str:
    """`value` on one line, as it would stand behind a key."""
    if isinstance(value, Mapping):
        return f"{{{', '.join(f'{_text(str(k))}: {flow(entry)}' for k, entry in value.items())}}}"
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(flow, value))}]"
    return _text(value) if isinstance(value, str) else json.dumps(value)


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
