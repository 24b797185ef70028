"""The terms of a promotion: what a study file states of its model, gates and confirmation.

A study keeps the terms of its last run. If its file was edited since, the promotion is refused,
unless the file is named: then its terms count.
"""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from tuner.errors import RefusedError, UsageError
from tuner.spec.study_spec import StudySpec
from tuner.spec.text.reader import read_study
from tuner.spec.text.writer import study_document
from tuner.spec.text.yaml import flow
from tuner.storage.studies import StudyRecord
from tuner.words import command

_SECTIONS = ("promotion", "confirmation")


def terms(record: StudyRecord, file: Path | None, say: Callable[[str], None]) -> StudySpec:
    """The study as it was last run, with the terms that count for its promotion.

    Args:
        record: the study.
        file: the study file whose terms count instead of those of the last run.
        say: receives where the terms come from, if that is not the study file.

    Raises:
        SpecError: a file that is there breaks a rule.
        UsageError: `file` is the file of another study.
        RefusedError: the study's own file now has other terms, or it is a confirmation or a refit,
            which has none of its own.
    """
    if (origin := record.spec.origin) is not None:
        raise RefusedError(
            f"{record.name} trains points of {origin} again; promote that: "
            + command("promote", "best", origin)
        )
    if file is not None:
        return _stated(record, file)
    overriding = [one for one in record.overrides if one.startswith(_SECTIONS)]
    if overriding:
        say(f"the study was last run with --set {' --set '.join(overriding)}, which counts")
    own = record.file
    if not own.is_file():
        say(f"{own} does not exist: the terms of the study's last run count")
        return record.spec
    now = _read(record, own, record.overrides)
    if now.name != record.name:
        say(
            f"{own} is now that of {now.name!r}: the terms of the last run of {record.name!r} count"
        )
    elif edits := list(_edits(record.spec, now)):
        raise RefusedError(
            "\n".join(f"{own}: {edit}" for edit in edits)
            + "\nto go by the file: "
            + command("promote", "best", record.name, options=["--file", str(own)])
        )
    return record.spec


def _stated(record: StudyRecord, file: Path) -> StudySpec:
    """The terms in the file itself, without the overrides of the last run."""
    kept = [one for one in record.overrides if not one.startswith(_SECTIONS)]
    spec = _read(record, file, kept)
    if spec.name != record.name:
        raise UsageError(f"{file}: must be the file of {record.name!r}, got that of {spec.name!r}")
    return record.spec.model_copy(update={name: getattr(spec, name) for name in _SECTIONS})


def _read(record: StudyRecord, file: Path, overrides: Sequence[str]) -> StudySpec:
    """Reads the file, under the study's name if the record may lack a `--name`."""
    spec = read_study(file, overrides)
    if spec.name == record.name or record.overrides or file.absolute() != record.file.absolute():
        return spec
    return read_study(file, [f"name={json.dumps(record.name)}"])


def _edits(before: StudySpec, after: StudySpec) -> Iterator[str]:
    ran, says = dict(_entries(before)), dict(_entries(after))
    for key in {**ran, **says}:
        if ran.get(key) != says.get(key):
            yield (
                f"{key}: the file now says {_shown(says, key)}, the study was last run with "
                f"{_shown(ran, key)}"
            )


def _entries(spec: StudySpec) -> Iterator[tuple[str, object]]:
    document = study_document(spec)
    yield from _leaves("promotion", document["promotion"])
    yield "confirmation", document["confirmation"]


def _leaves(key: str, entry: object) -> Iterator[tuple[str, object]]:
    """The values of a section, each under its path."""
    if not isinstance(entry, Mapping):
        yield key, entry
        return
    for name, value in entry.items():
        yield from _leaves(f"{key}.{name}", value)


def _shown(entries: Mapping[str, object], key: str) -> str:
    return flow(entries[key]) if key in entries else "nothing"
