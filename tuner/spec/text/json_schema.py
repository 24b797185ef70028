"""The study file's JSON Schema, for completion and checks in editors.

Made from the same types that read the file. `tuner schema` prints it, and
`docs/study.schema.json` is what it prints.
"""

import json
from typing import Any

from tuner.spec.recipe import Recipe
from tuner.spec.study_spec import StudySpec


def json_schema() -> dict[str, Any]:
    """The JSON Schema (draft 2020-12) of a study file, short forms included.

    Rules between entries are beyond it; only reading the file checks those.
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
    """Python code may leave out the `type` that its class implies; a file may not."""
    kind = definition["properties"].get("type", {})
    if "const" in kind:
        kind.pop("default", None)
        definition["required"] = sorted({"type", *definition.get("required", ())})


def schema_text() -> str:
    """The schema as the file `docs/study.schema.json` has it."""
    return json.dumps(json_schema(), indent=2) + "\n"
