"""The wording of what is wrong with a study file.

Owns the translation of pydantic's errors into the study file's language: key path, rule,
value. Nothing that pydantic itself says reaches a person.
"""

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails, InitErrorDetails, PydanticCustomError

from tuner.errors import unknown

Location = tuple[int | str, ...]
"""Keys and indices from the top of the file down to an entry."""

_BROKEN = "rule_broken"
_CONSEQUENCE = "default_factory_not_called"
"""A default that follows from another entry, which has a problem of its own."""

_LONGEST_VALUE = 60


@dataclass(frozen=True)
class Problem:
    """One broken rule and where; reads `search_space.rate.low: must be > 0, got 0`."""

    at: Location
    rule: str

    def __str__(self) -> str:
        return f"{key_path(self.at)}: {self.rule}" if self.at else self.rule


def key_path(location: Location) -> str:
    """The location as people write it: `baseline[0].learning_rate`."""
    parts = (f"[{part}]" if isinstance(part, int) else f".{part}" for part in location)
    return "".join(parts).removeprefix(".")


def shown(value: object) -> str:
    """`value` as the study file would have it, shortened."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, Mapping):
        return "a mapping"
    if isinstance(value, list | tuple):
        return "a list"
    text = repr(value)
    return text if len(text) <= _LONGEST_VALUE else f"{text[:_LONGEST_VALUE]}..."


def broken(*problems: Problem) -> ValidationError:
    """What a validator raises; pydantic puts each problem below the entry being validated."""
    return ValidationError.from_exception_data(
        "study file",
        [
            InitErrorDetails(
                type=PydanticCustomError(_BROKEN, "{rule}", {"rule": problem.rule}),
                loc=problem.at,
                input=None,
            )
            for problem in problems
        ],
    )


def problems_in(error: ValidationError, keys: Collection[str]) -> list[Problem]:
    """Every problem of `error`, in our words; `keys` are those the mapping may hold."""
    return list(_translated(error, keys))


def _translated(error: ValidationError, keys: Collection[str]) -> Iterator[Problem]:
    for line in error.errors(include_url=False):
        if line["type"] == "extra_forbidden":
            yield Problem(line["loc"], unknown("key", str(line["loc"][-1]), keys))
        elif line["type"] != _CONSEQUENCE:
            yield Problem(line["loc"], _rule(line))


def _rule(line: ErrorDetails) -> str:
    wording = _WORDING.get(line["type"])
    if wording is None:
        return line["msg"].removeprefix("Value error, ")
    context = {key: _trimmed(bound) for key, bound in line.get("ctx", {}).items()}
    rule = wording(context) if callable(wording) else wording.format(**context)
    complete = line["type"] in ("missing", "too_short")
    return rule if complete else f"{rule}, got {shown(line['input'])}"


def _trimmed(bound: object) -> object:
    return int(bound) if isinstance(bound, float) and bound.is_integer() else bound


def _without_quotes(context: dict[str, Any]) -> str:
    return f"must be {context['expected'].replace(chr(39), '')}"


_WHOLE = "must be a whole number"
_MAPPING = "must be a mapping"

_WORDING: dict[str, str | Callable[[dict[str, Any]], str]] = {
    "missing": "is required",
    "too_short": "must have at least {min_length} entry, got {actual_length}",
    "string_too_short": "must not be empty",
    "greater_than": "must be > {gt}",
    "greater_than_equal": "must be >= {ge}",
    "less_than": "must be < {lt}",
    "less_than_equal": "must be <= {le}",
    "finite_number": "must be finite",
    "int_type": _WHOLE,
    "float_type": "must be a number",
    "bool_type": "must be true or false",
    "string_type": "must be text",
    "literal_error": _without_quotes,
    "dict_type": _MAPPING,
    "mapping_type": _MAPPING,
    "model_type": _MAPPING,
    "tuple_type": "must be a list",
    "invalid_key": "must be a text key",
}
