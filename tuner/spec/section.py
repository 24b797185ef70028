"""The base classes of a study file's sections: frozen mappings with readable errors."""

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Self, get_args

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    ModelWrapValidatorHandler,
    ValidationError,
    ValidationInfo,
    model_validator,
)
from pydantic_core import ErrorDetails, InitErrorDetails, PydanticCustomError

from tuner.errors import encodable, unknown

Location = tuple[int | str, ...]
"""The keys and indices that lead from the top of the file to an entry."""

Real = Annotated[float, Field(strict=True, allow_inf_nan=False)]
"""A finite number, also a whole one; not a boolean or text."""

Whole = Annotated[int, Field(strict=True)]
"""A whole number, not a boolean."""

Flag = Annotated[bool, Field(strict=True)]
"""true or false, not 1 or "yes"."""


Text = Annotated[str, AfterValidator(encodable)]
"""Text from a user's code or file. Characters that UTF-8 cannot encode are replaced."""

STORED = "stored"
"""The validation context of a study that is read from the database."""

_BROKEN = "rule_broken"
_CONSEQUENCE = "default_factory_not_called"
"""Pydantic's error for a default that depends on an invalid entry, which has its own error."""

_LONGEST_VALUE = 60


@dataclass(frozen=True)
class Problem:
    """A broken rule and its location, such as `search_space.rate.low: must be > 0, got 0`."""

    at: Location
    rule: str

    def __str__(self) -> str:
        return f"{key_path(self.at)}: {self.rule}" if self.at else self.rule


class Frozen(BaseModel):
    """Immutable data that is validated once. Unknown keys are errors."""

    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="constants")


class Section(Frozen):
    """A mapping in the study file. Its `ValidationError` uses tuner's wording."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    @model_validator(mode="wrap")
    @classmethod
    def _reword(cls, value: Any, handler: ModelWrapValidatorHandler[Self]) -> Self:
        try:
            return handler(value)
        except ValidationError as error:
            raise broken(*problems_in(error, cls.model_fields)) from error


def by_type(
    kind: str, classes: tuple[type[Section], ...], value: object, context: object = None
) -> Section:
    """Validates a mapping, or only a name, as the class with that `type`.

    Args:
        kind: what the classes are, for messages.
        classes: the possible classes.
        value: the mapping or name.
        context: the validation context.

    Raises:
        ValidationError: the type is unknown, or the chosen class has problems.
    """
    if isinstance(value, classes):
        return value
    known = {type_name(section): section for section in classes}
    if isinstance(value, str):
        return _chosen(kind, known, value, ()).model_validate({"type": value})
    if not isinstance(value, Mapping):
        raise broken(Problem((), f"must be a name or a mapping, got {shown(value)}"))
    if "type" not in value:
        raise broken(Problem(("type",), f"is required (known: {', '.join(sorted(known))})"))
    return _chosen(kind, known, value["type"], ("type",)).model_validate(value, context=context)


def type_name(section: type[Section]) -> str:
    """Returns the `type` of a section in a file."""
    return str(get_args(section.model_fields["type"].annotation)[0])


def is_stored(info: ValidationInfo[Any]) -> bool:
    """Whether the validated data comes from the database."""
    return bool(info.context == STORED)


def key_path(location: Location) -> str:
    """Formats a location, such as `baseline[0].learning_rate`."""
    parts = (f"[{part}]" if isinstance(part, int) else f".{part}" for part in location)
    return "".join(parts).removeprefix(".")


def shown(value: object) -> str:
    """Formats a value as in a study file, shortened to 60 characters."""
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
    """Creates the error that a validator raises; pydantic adds the location of its entry."""
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
    """Returns the problems of `error` in tuner's wording; `keys` are the mapping's valid keys."""
    return list(_translated(error, keys))


def _chosen(
    kind: str, known: Mapping[str, type[Section]], name: object, at: Location
) -> type[Section]:
    if isinstance(name, str) and name in known:
        return known[name]
    text = name if isinstance(name, str) else shown(name)
    raise broken(Problem(at, unknown(kind, text, known)))


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
