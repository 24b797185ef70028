"""`tuner schema`: prints the study file's JSON Schema, for editors."""

import typer


def schema() -> None:
    """Print the JSON Schema of study files, for completion in editors."""
    from tuner.spec.text.json_schema import schema_text

    typer.echo(schema_text(), nl=False)
