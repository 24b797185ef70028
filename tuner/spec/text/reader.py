"""Reads a study file, and reports all its problems at once."""

import json
from collections.abc import Sequence
from pathlib import Path

from pydantic import ValidationError

from tuner.errors import SpecError
from tuner.spec.section import STORED, Problem, problems_in
from tuner.spec.study_spec import StudySpec
from tuner.spec.text.overrides import Override, overridden, parse_override
from tuner.spec.text.yaml import MOST_BYTES, load


def read_study(path: Path, overrides: Sequence[str] = ()) -> StudySpec:
    """Reads the study file at `path`, with overrides such as `epochs=3`.

    Raises:
        SpecError: the file cannot be read, or breaks rules; lists all of them.
        UsageError: an override is not `key=value`.
    """
    return parse_study(_text(path), str(path), overrides)


def parse_study(text: str, source: str, overrides: Sequence[str] = ()) -> StudySpec:
    """Validates the text of a study file; `source` names the file in messages.

    Raises:
        SpecError: all broken rules. It names the overrides instead of the file if they alone are
            the cause.
        UsageError: an override is not `key=value`.
    """
    document = load(text, source)
    if document is None:
        raise SpecError(source, ["must contain a study, got an empty file"])
    applied = [parse_override(override) for override in overrides]
    try:
        return StudySpec.model_validate(overridden(document, applied))
    except ValidationError as error:
        problems = problems_in(error, StudySpec.model_fields)
        raise SpecError(_blamed(source, problems, applied), map(str, problems)) from error


def parse_stored(text: str, name: str, **known: object) -> StudySpec:
    """Reads a study from the database. Limits that were added later do not apply to it.

    Args:
        text: the result of `to_stored`, or the YAML of earlier versions.
        name: the study's name, for messages.
        known: entries that earlier versions did not store.

    Raises:
        SpecError: this version of tuner cannot read it.
    """
    source = f"study {name}"
    try:
        document = _mapping(_stored(text, source))
        return StudySpec.model_validate({**document, **known}, context=STORED)
    except ValidationError as error:
        raise SpecError(source, map(str, problems_in(error, StudySpec.model_fields))) from error


def _stored(text: str, source: str) -> object:
    if not text.startswith("{"):
        return load(text, source)
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise SpecError(source, [f"must be JSON: {error}"]) from error


def _mapping(document: object) -> dict[str, object]:
    return document if isinstance(document, dict) else {}


def _text(path: Path) -> str:
    try:
        with path.open("rb") as file:
            content = file.read(MOST_BYTES + 1)
        return content.decode("utf-8-sig")
    except FileNotFoundError as missing:
        raise SpecError(str(path), ["no such file"]) from missing
    except OSError as refused:
        raise SpecError(str(path), [f"cannot be read: {refused.strerror}"]) from refused
    except UnicodeDecodeError as error:
        byte = content[error.start]
        rule = f"must be UTF-8 text, got byte 0x{byte:02x} at position {error.start}"
        raise SpecError(str(path), [rule]) from error


def _blamed(source: str, problems: Sequence[Problem], overrides: Sequence[Override]) -> str:
    """Returns the overrides that cause the problems, or the file and all overrides."""
    flags = [one.flag for one in overrides]
    culprits = [one.flag for one in overrides if any(map(one.concerns, problems))]
    if all(any(one.concerns(problem) for one in overrides) for problem in problems):
        return " ".join(culprits)
    return f"{source} with {' '.join(flags)}" if flags else source
