"""What every part of a study file is made of: frozen mappings whose errors are readable."""

from collections.abc import Mapping
from typing import Annotated, Any, Self, get_args

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    ModelWrapValidatorHandler,
    ValidationError,
    model_validator,
)

from tuner.errors import encodable, unknown
from tuner.spec.problems import Location, Problem, broken, problems_in, shown

Real = Annotated[float, Field(strict=True, allow_inf_nan=False)]
"""A finite number; whole ones are taken too, booleans and text are not."""

Whole = Annotated[int, Field(strict=True)]
"""A whole number, never a boolean."""

Flag = Annotated[bool, Field(strict=True)]
"""true or false, never 1 or "yes"."""


Text = Annotated[str, AfterValidator(encodable)]
"""What anyone's code or file says: kept as far as JSON, databases and MLflow can keep it."""


class Frozen(BaseModel):
    """Data that is checked once, refuses unknown keys and never changes."""

    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="constants")


class Section(Frozen):
    """A mapping of the study file.

    Its `ValidationError` holds our wording alone, an unknown key's neighbours included.
    """

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
    """Validates `value`, a mapping or a bare name, as the class that its `type` names.

    `context` is that of the validation around it.

    Raises:
        ValidationError: no such type, or the chosen class's problems and no other's.
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


def _chosen(
    kind: str, known: Mapping[str, type[Section]], name: object, at: Location
) -> type[Section]:
    if isinstance(name, str) and name in known:
        return known[name]
    text = name if isinstance(name, str) else shown(name)
    raise broken(Problem(at, unknown(kind, text, known)))


def type_name(section: type[Section]) -> str:
    """What `type` a file writes for `section`."""
    return str(get_args(section.model_fields["type"].annotation)[0])
