"""What a study file says of its data set."""

from collections.abc import Mapping
from typing import Annotated

from pydantic import BeforeValidator, Field

from tuner.spec.names import FunctionName
from tuner.spec.search_space import Value
from tuner.spec.section import Section


class DatasetReference(Section):
    """The data set's name, and what its function is called with."""

    name: FunctionName
    """A known data set, or `package.module:function`."""
    args: Mapping[str, Value] = Field(default_factory=dict)
    """What the data set's function is called with."""


def _from_name(value: object) -> object:
    return {"name": value} if isinstance(value, str) else value


DatasetEntry = Annotated[
    DatasetReference, BeforeValidator(_from_name, json_schema_input_type=str | DatasetReference)
]
"""A data set as a study file writes it: the name alone will do."""
