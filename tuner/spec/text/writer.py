"""Writes a study as a readable study file, or as text for the database."""

import json

from tuner.spec.search_space import Domain, Scalar
from tuner.spec.section import Section
from tuner.spec.study_spec import DatasetReference, StudySpec
from tuner.spec.text.yaml import dump


def to_yaml(spec: StudySpec) -> str:
    """Writes the whole study as YAML, in one canonical form.

    `parse_study(to_yaml(spec))` equals `spec`. Defaults are included, so that a later version
    with other defaults reads the same study.
    """
    return dump(study_document(spec))


def to_stored(spec: StudySpec) -> str:
    """Writes the whole study as JSON, for the database. Reading YAML takes 100 times as long.

    `parse_stored(to_stored(spec), spec.name)` equals `spec`. Equal studies have equal texts.
    """
    return json.dumps(study_document(spec))


def study_document(spec: StudySpec) -> dict[str, object]:
    """Returns the study as plain data, in the short forms of a study file."""
    special = {
        "dataset": _dataset(spec.dataset),
        "search_space": {name: _entry(entry) for name, entry in spec.search_space.items()},
        "baseline": [dict(point) for point in spec.baseline],
        "sampler": _typed(spec.sampler),
        "pruner": _typed(spec.pruner),
        "confirmation": "off" if spec.confirmation is None else spec.confirmation.model_dump(),
    }
    return {**spec.model_dump(exclude_none=True), **special}


def _dataset(dataset: DatasetReference) -> object:
    return dataset.model_dump() if dataset.args else dataset.name


def _entry(entry: Domain | Scalar) -> object:
    return entry if isinstance(entry, Scalar) else entry.model_dump(exclude_defaults=True)


def _typed(section: Section) -> object:
    stated = section.model_dump()
    return stated["type"] if len(stated) == 1 else stated
