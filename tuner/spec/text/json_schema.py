"""The JSON Schema of the study file, for completion and checks in editors.

It is generated from the types that read the file. `tuner schema` prints it, and
`docs/study.schema.json` contains it.
"""

import json
from typing import Any

from tuner.spec.recipe import Recipe
from tuner.spec.study_spec import StudySpec


def json_schema() -> dict[str, Any]:
    """Returns the JSON Schema (draft 2020-12) of a study file, with its short forms.

    It cannot express rules between entries; only the reader checks those.
    """
    schema = StudySpec.model_json_schema()
    space = schema["properties"]["search_space"]
    space["properties"] = {
        name: {"description": field.description, **space["additionalProperties"]}
        for name, field in Recipe.model_fields.items()
    }
    for definition in schema["$defs"].values():
        _require_type(definition)
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **schema,
        "title": "tuner study",
        "description": "A study: data set, model, search space, budget and promotion gates.",
    }


def _require_type(definition: dict[str, Any]) -> None:
    """Makes `type` required: its default is for Python code only."""
    kind = definition["properties"].get("type", {})
    if "const" in kind:
        kind.pop("default", None)
        definition["required"] = sorted({"type", *definition.get("required", ())})


def schema_text() -> str:
    """Returns the text of `docs/study.schema.json`."""
    return json.dumps(json_schema(), indent=2) + "\n"
