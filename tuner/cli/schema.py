"""`tuner schema`: the study file's JSON Schema, for editors."""

import json

import typer


def schema() -> None:
    """Print the JSON Schema of study files, for completion in editors."""
    from tuner.spec.schema import json_schema

    typer.echo(json.dumps(json_schema(), indent=2))
