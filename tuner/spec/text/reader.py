"""The study file's reader: a path or a text in, a checked study or all its problems out."""

import json
from collections.abc import Sequence
from pathlib import Path

from pydantic import ValidationError

from tuner.errors import SpecError
from tuner.spec.section import STORED, Problem, problems_in
from tuner.spec.study_spec import StudySpec
from tuner.spec.text.overrides import Override, overridden, parse_override
from tuner.spec.text.writer import to_yaml
from tuner.spec.text.yaml import MOST_BYTES, load

__all__ = ["parse_stored", "parse_study", "read_study", "to_yaml"]


def read_study(path: Path, overrides: Sequence[str] = ()) -> StudySpec:
    """Reads the study file at `path`, changed by `overrides` such as `epochs=3`.

    Raises:
        SpecError: the file cannot be read, or every rule that it breaks.
        UsageError: an override is no `key=value`.
    """
    return parse_study(_text(path), str(path), overrides)


def parse_study(text: str, source: str, overrides: Sequence[str] = ()) -> StudySpec:
    """Checks the study file `text`; `source` names it in messages.

    Raises:
        SpecError: every rule that the study breaks. The source is the overrides' own where
            they alone are to blame.
        UsageError: an override is no `key=value`.
    """
    document = load(text, source)
    if document is None:
        raise SpecError(source, ["must hold a study, got an empty file"])
    applied = [parse_override(override) for override in overrides]
    try:
        return StudySpec.model_validate(overridden(document, applied))
    except ValidationError as error:
        problems = problems_in(error, StudySpec.model_fields)
        raise SpecError(_blamed(source, problems, applied), map(str, problems)) from error


def parse_stored(text: str, name: str, **known: object) -> StudySpec:
    """Reads the study `name` back from the database, free of limits that came after it.

    Args:
        text: what `to_stored` wrote, or the YAML of earlier versions.
        name: the study's, for messages.
        known: entries that texts of earlier versions leave out.

    Raises:
        SpecError: another version of tuner wrote it.
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
    """The overrides that the problems concern if that explains all, else the file and all."""
    flags = [one.flag for one in overrides]
    culprits = [one.flag for one in overrides if any(map(one.concerns, problems))]
    if all(any(one.concerns(problem) for one in overrides) for problem in problems):
        return " ".join(culprits)
    return f"{source} with {' '.join(flags)}" if flags else source
