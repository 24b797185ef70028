"""Compares a changed study file with the stored study, to decide whether it may resume."""

from collections.abc import Iterator, Mapping

from tuner.spec.recipe import VARIABLE
from tuner.spec.study_spec import StudySpec
from tuner.spec.text.writer import study_document
from tuner.spec.text.yaml import flow

MAY_CHANGE = frozenset(
    {
        "trials",
        "workers",
        "epoch_limit_s",
        "lease_s",
        "max_retries",
        "keep_models",
        "promotion",
        "confirmation",
        "claims",
        "pruner",
    }
)
"""The keys that may change, since they do not change the meaning of existing trials."""


def with_stored_choices(stored: StudySpec, new: StudySpec) -> StudySpec:
    """Returns `new`, with precision and pruner from `stored` if the file leaves them open."""
    kept: dict[str, object] = {}
    if new.precision == "auto":
        kept["precision"] = stored.precision
    if "pruner" not in new.model_fields_set:
        kept["pruner"] = stored.pruner
    return new.model_copy(update=kept)


def resume_problems(stored: StudySpec, new: StudySpec) -> list[str]:
    """Returns the differences that do not allow `new` to resume the study `stored`.

    Each problem reads `key: the study was started with X, the file now says Y`. The search space
    is compared by parameter. Empty if the study may resume.
    """
    before, after = _entries(stored), _entries(with_stored_choices(stored, new))
    changed = (key for key in {**before, **after} if before.get(key) != after.get(key))
    return [
        f"{key}: the study was started with {_shown(before, key)}, "
        f"{_source(new, key)} {_shown(after, key)}"
        for key in changed
    ]


def _entries(spec: StudySpec) -> dict[str, object]:
    return dict(_flattened(study_document(spec)))


def _flattened(document: Mapping[str, object]) -> Iterator[tuple[str, object]]:
    for key, value in document.items():
        if key == "search_space" and isinstance(value, Mapping):
            yield from ((f"{key}.{name}", entry) for name, entry in value.items())
        elif key == "race" and isinstance(value, Mapping):
            rules = {**value["rules"], "max_seeds": None}  # a race may get more seeds
            yield key, {**value, "rules": rules}
        elif key not in MAY_CHANGE:
            yield key, value


def _source(new: StudySpec, key: str) -> str:
    implied = key == "backend" and key not in new.model_fields_set
    return f"the file leaves it to {VARIABLE}, which means" if implied else "the file now says"


def _shown(entries: Mapping[str, object], key: str) -> str:
    return flow(entries[key]) if key in entries else "nothing"
