"""Whether a study that has begun may go on with a study file that has changed."""

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
        "pruner",
    }
)
"""What does not alter the meaning of the trials that are already there."""


def settled(stored: StudySpec, wanted: StudySpec) -> StudySpec:
    """`wanted`, with what it leaves open as it was settled when the study began."""
    kept: dict[str, object] = {}
    if wanted.precision == "auto":
        kept["precision"] = stored.precision
    if "pruner" not in wanted.model_fields_set:
        kept["pruner"] = stored.pruner
    return wanted.model_copy(update=kept)


def resume_problems(stored: StudySpec, wanted: StudySpec) -> list[str]:
    """What `wanted` says otherwise than the study `stored` that it would go on with.

    Each problem reads `key: the study was started with X, the file now says Y`, unless Y is
    what `KERAS_BACKEND` implies; the search space is compared parameter by parameter. Empty
    when the study may go on.
    """
    before, after = _entries(stored), _entries(settled(stored, wanted))
    changed = (key for key in {**before, **after} if before.get(key) != after.get(key))
    return [
        f"{key}: the study was started with {_said(before, key)}, "
        f"{_speaker(wanted, key)} {_said(after, key)}"
        for key in changed
    ]


def _entries(spec: StudySpec) -> dict[str, object]:
    return dict(_flattened(study_document(spec)))


def _flattened(document: Mapping[str, object]) -> Iterator[tuple[str, object]]:
    for key, value in document.items():
        if key == "search_space" and isinstance(value, Mapping):
            yield from ((f"{key}.{name}", entry) for name, entry in value.items())
        elif key not in MAY_CHANGE:
            yield key, value


def _speaker(wanted: StudySpec, key: str) -> str:
    implied = key == "backend" and key not in wanted.model_fields_set
    return f"the file leaves it to {VARIABLE}, which means" if implied else "the file now says"


def _said(entries: Mapping[str, object], key: str) -> str:
    return flow(entries[key]) if key in entries else "nothing"
