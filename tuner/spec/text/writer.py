"""A study back to the file that a person would have written, or to text for the database."""

import json

from tuner.spec.search_space import Domain, Scalar
from tuner.spec.section import Section
from tuner.spec.study_spec import DatasetReference, StudySpec
from tuner.spec.text.yaml import dump


def to_yaml(spec: StudySpec) -> str:
    """The whole study as YAML, in one canonical form.

    `parse_study(to_yaml(spec))` equals `spec`. Defaults are written out, so that a later
    version with other defaults reads the same study.
    """
    return dump(study_document(spec))


def to_stored(spec: StudySpec) -> str:
    """The whole study as JSON, for the database: YAML takes a hundred times as long to read.

    `parse_stored(to_stored(spec), spec.name)` equals `spec`. Equal studies have equal texts.
    """
    return json.dumps(study_document(spec))


def study_document(spec: StudySpec) -> dict[str, object]:
    """The study as the plain data that a study file holds, in short forms."""
    special = {
        "dataset": _dataset(spec.dataset),
        "search_space": {name: _entry(entry) for name, entry in spec.search_space.items()},
        "baseline": [dict(point) for point in spec.baseline],
        "sampler": _typed(spec.sampler),
        "pruner": _typed(spec.pruner),
    }
    return {**spec.model_dump(exclude_none=True), **special}


def _dataset(dataset: DatasetReference) -> object:
    return dataset.model_dump() if dataset.args else dataset.name


def _entry(entry: Domain | Scalar) -> object:
    return entry if isinstance(entry, Scalar) else entry.model_dump(exclude_defaults=True)


def _typed(section: Section) -> object:
    stated = section.model_dump()
    return stated["type"] if len(stated) == 1 else stated
