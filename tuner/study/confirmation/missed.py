"""Images that every good training misses: probable label errors, and classes that look alike.

A race validates each of its points on the same rows in a block, and on others in the next one. A
training is good if it completed and its point was never left out of the race. An image is missed
if all good trainings that were validated on it, two at least, confidently put it into another class
than its label's (`confident_errors` in `tuner/training/scores.py`), be it the same class or not.
None of these trainings had seen the image. An image that was in no block's validation rows is not
judged.
"""

from collections import Counter, defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
from numpy.typing import NDArray
from optuna.trial import FrozenTrial, TrialState

from tuner.datasets.split import stratified_split
from tuner.datasets.store import find_prepared, read_arrays, read_files
from tuner.errors import DataError
from tuner.search.points import point_of, replicate_of, split_seed
from tuner.search.race_trials import race_state, values_of
from tuner.search.trials import stored_errors
from tuner.spec.study_spec import StudySpec
from tuner.storage.studies import StudyRecord
from tuner.storage.tables import SLOT
from tuner.tracking.spool.spool_events import Missed, MissedImage
from tuner.training.plan import ConfidentError

_FEWEST = 2
"""The fewest trainings that can agree on an image."""

Errors = Mapping[int, Sequence[ConfidentError]]
"""The errors of all trainings on an image, by its row."""


def find_missed(record: StudyRecord, rows: Sequence[FrozenTrial], datasets: Path) -> Missed | None:
    """Finds the missed images of a confirmation.

    Args:
        record: the study.
        rows: its Optuna trials.
        datasets: the folder with the prepared data sets.

    Returns:
        None if the study is no confirmation or is not over, if its trainings did not record their
        errors, as with earlier versions of tuner, or if the data set cannot be read here.
    """
    spec = record.spec
    if spec.race is None:
        return None
    state = race_state(spec, values_of(spec, rows))
    good = list(_good_trainings(spec, rows, state.remaining))
    if not state.over or not good:
        return None
    try:
        dataset = find_prepared(record.dataset, datasets)
        if dataset is None:
            return None
        labels, files = read_arrays(dataset.train)[1], read_files(dataset.train)
    except DataError:  # the race is decided without them
        return None
    found = _missed(good, _validations(spec, good, labels))
    images = [_image(errors, record.dataset.classes, files) for errors in found.values()]
    images.sort(key=lambda each: (-each.agreeing, -each.probability, each.row))
    return Missed(images=tuple(images), folder=dataset.train)


def confused_pairs(images: Sequence[MissedImage]) -> list[tuple[str, str, int]]:
    """The pairs of label and predicted class among images, and how many have them, most first."""
    pairs = Counter((each.label, each.predicted) for each in images)
    return [(*pair, number) for pair, number in pairs.most_common()]


_Training = tuple[int, Sequence[ConfidentError]]
"""The slot of a training, and its errors."""


def _good_trainings(
    spec: StudySpec, rows: Sequence[FrozenTrial], remaining: Collection[int]
) -> Iterator[_Training]:
    for row in rows:
        slot, completed = row.user_attrs[SLOT], row.state is TrialState.COMPLETE
        if completed and point_of(spec, slot) in remaining:
            errors = stored_errors(row)
            if errors is not None:
                yield slot, errors


def _validations(
    spec: StudySpec, good: Sequence[_Training], labels: NDArray[Any]
) -> NDArray[np.int64]:
    """How many of the trainings were validated on each image, shape (N,)."""
    validated = np.zeros(len(labels), np.int64)
    blocks = defaultdict[int, list[int]](list)
    for slot, _ in good:
        blocks[replicate_of(spec, slot)].append(slot)
    for slots in blocks.values():
        _, held_out = stratified_split(labels, spec.validation, split_seed(spec, slots[0]))
        validated[held_out] += len(slots)
    return validated


def _missed(good: Sequence[_Training], validated: NDArray[np.int64]) -> Errors:
    wrong = defaultdict[int, list[ConfidentError]](list)
    for _, errors in good:
        for error in errors:
            wrong[error.row].append(error)
    return {
        row: errors for row, errors in wrong.items() if len(errors) >= max(validated[row], _FEWEST)
    }


def _image(
    errors: Sequence[ConfidentError], classes: Sequence[str], files: Sequence[str]
) -> MissedImage:
    row, label = errors[0].row, errors[0].label
    ((predicted, agreeing),) = Counter(error.predicted for error in errors).most_common(1)
    return MissedImage(
        row=row,
        file=files[row] if files else "",
        label=classes[label],
        predicted=classes[predicted],
        agreeing=agreeing,
        trainings=len(errors),
        probability=fmean(error.probability for error in errors),
    )
